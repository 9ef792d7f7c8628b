// What `limited.js` is to a script, for code that is loaded while a script runs: it has no binding behind which counting begins.

import count from "skep-internal:limits";

count({});

export const { handled } = /** @type {any} */ (globalThis).__skep();
