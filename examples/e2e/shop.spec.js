const { expect, test } = require("@playwright/test");

test("the front end answers", async ({ request }) => {
  expect(await (await request.get("/")).text()).toMatch(/^\d+$/m);
});
