// The gateway, as the server of this application calls it. The key never reaches a browser.

const address = process.env.STREAMGATE_URL ?? "http://127.0.0.1:8080";
const key = process.env.STREAMGATE_KEY;

export const MODEL = process.env.STREAMGATE_MODEL ?? "sim";
export const baseURL = `${address}/v1`;
export const apiKey = key;

/** Calls a path of the gateway that is not a vendor's API. */
export const gateway = (path, options = {}) =>
  fetch(`${baseURL}${path}`, { ...options, cache: "no-store", headers: { authorization: `Bearer ${key}`, ...options.headers } });
