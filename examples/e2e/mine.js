// Playwright calls this once the server answers: whose it is decides whether the tests begin.
const { execFileSync } = require("node:child_process");

module.exports = () => execFileSync("ultra-ports", ["health", "--mine", "frontend"], { stdio: "inherit" });
