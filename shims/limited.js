// What the main module takes over of limits.js, before the application is there.

export const { handled, visited, within } = /** @type {any} */ (globalThis).__skep();
