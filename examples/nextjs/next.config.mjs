/** @type {import("next").NextConfig} */
export default {
  // This folder is the whole application, whatever lock files are above it.
  turbopack: { root: import.meta.dirname },
  devIndicators: false,
};
