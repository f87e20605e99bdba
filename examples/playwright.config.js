// Playwright starts the front end, or reuses the one that answers: this checkout's, or no test begins.
const { execFileSync } = require("node:child_process");
const { defineConfig } = require("@playwright/test");

process.env.FRONTEND_PORT ??= execFileSync("ultra-ports", ["env", "frontend"], { encoding: "utf8" }).trim();
const port = process.env.FRONTEND_PORT;

module.exports = defineConfig({
  testDir: "e2e",
  globalSetup: require.resolve("./e2e/mine.js"),
  use: { baseURL: `http://127.0.0.1:${port}` },
  webServer: {
    command: `ultra-ports run --strict --port frontend:${port} -- node server.js`,
    url: `http://127.0.0.1:${port}`,
    reuseExistingServer: true,
  },
});
