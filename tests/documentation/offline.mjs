// The documentation site as files, in Chromium without a network: searches, and prints the results.
//
//     node offline.mjs file:///.../index.html

import { createRequire } from "node:module";

const { chromium } = createRequire(new URL("../browser/", import.meta.url))("playwright-core");

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(60_000);
  const foreign = [];
  page.on("request", (request) => /^(file|data|blob|about):/.test(request.url()) || foreign.push(request.url()));
  await page.goto(process.argv[2]);
  await page.fill("input[name=query]", "streamgate-on-disconnect");
  const results = page.locator(".md-search-result__item");
  await results.first().waitFor();
  console.log((await results.allInnerTexts()).join("\n"));
  if (foreign.length > 0) throw new Error(`requests that leave the site: ${foreign}`);
} finally {
  await browser.close();
}
