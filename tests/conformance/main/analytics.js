import { attempts } from "./kit.js";

export const analytics = {
  "writeDataPoint": ({ env: { POINTS } }) => attempts({
    all: () => POINTS.writeDataPoint({ indexes: ["a"], blobs: ["b", null], doubles: [1.5, -2] }),
    nothing: () => POINTS.writeDataPoint(),
    empty: () => POINTS.writeDataPoint({}),
    bytes: () => POINTS.writeDataPoint({ blobs: [new Uint8Array([1]).buffer] }),
    badDoubles: () => POINTS.writeDataPoint({ doubles: ["a"] }),
  }),
  "writeDataPoint: values of the wrong type": ({ env: { POINTS } }) => attempts({
    indexes: () => POINTS.writeDataPoint({ indexes: "a" }),
    string: () => POINTS.writeDataPoint("a"),
  }),
  "writeDataPoint: more than the limits": ({ env: { POINTS } }) => attempts({
    indexes: () => POINTS.writeDataPoint({ indexes: ["a", "b"] }),
    longIndex: () => POINTS.writeDataPoint({ indexes: ["x".repeat(97)] }),
    blobs: () => POINTS.writeDataPoint({ blobs: Array(21).fill("x") }),
    doubles: () => POINTS.writeDataPoint({ doubles: Array(21).fill(1) }),
    longBlobs: () => POINTS.writeDataPoint({ blobs: ["x".repeat(16_001)] }),
  }),
};
