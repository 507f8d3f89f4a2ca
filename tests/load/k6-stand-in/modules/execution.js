// The module `k6/execution`: what a virtual user may know of itself.
export default globalThis.__execution;
