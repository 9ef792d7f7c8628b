// Stubs of our own whose methods are not counted (`stubs.js`): what is asked by them is counted where it begins.

/** @type {WeakSet<object>} */
export default new WeakSet();
