import { attempts } from "./kit.js";

/** 60 by 40 pixels, black. */
const PNG = "iVBORw0KGgoAAAANSUhEUgAAADwAAAAoCAIAAAAt2Q6oAAAAHklEQVR42u3BMQEAAADCoPVP7W0HoAAAAAAAAADeABxIAAHkOW5pAAAAAElFTkSuQmCC";
const image = () => new Response(Uint8Array.fromBase64(PNG)).body;

/** What comes of these calls of `transform()`: the type, and the size as `info()` tells it. */
async function made(IMAGES, transforms, output = { format: "image/png" }) {
  const result = await transforms.reduce((input, options) => input.transform(options), IMAGES.input(image())).output(output);
  const { width, height, format } = await IMAGES.info(result.image());
  return { type: result.contentType(), format, width, height };
}

/** One `transform()` for each set of options. */
const each = (IMAGES, all) =>
  attempts(Object.fromEntries(Object.entries(all).map(([name, options]) => [name, () => made(IMAGES, [options])])));

export const images = {
  "info": ({ env: { IMAGES } }) => attempts({
    png: () => IMAGES.info(image()),
    svg: () => IMAGES.info(new Response('<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>').body),
  }),
  "info: what is no image": ({ env: { IMAGES } }) => attempts({
    code: () => IMAGES.info(new Response("no image").body).catch((error) => error.code),
  }),
  "one side": ({ env: { IMAGES } }) => each(IMAGES, {
    width: { width: 30 }, height: { height: 10 }, wider: { width: 120 }, none: {},
  }),
  "fit: smaller": ({ env: { IMAGES } }) => each(IMAGES, Object.fromEntries(
    ["scale-down", "contain", "cover", "crop", "pad", "squeeze"].map((fit) => [fit, { width: 20, height: 20, fit }]),
  )),
  "fit: larger": ({ env: { IMAGES } }) => each(IMAGES, Object.fromEntries(
    ["scale-down", "contain", "cover", "crop", "pad", "squeeze"].map((fit) => [fit, { width: 90, height: 90, fit }]),
  )),
  "fit: one side larger": ({ env: { IMAGES } }) => each(IMAGES, Object.fromEntries(
    ["scale-down", "contain", "cover", "crop", "pad", "squeeze"].map((fit) => [fit, { width: 30, height: 90, fit }]),
  )),
  "rotate": ({ env: { IMAGES } }) => each(IMAGES, {
    quarter: { rotate: 90 }, half: { rotate: 180 }, back: { rotate: 270 }, resized: { rotate: 90, width: 20 },
  }),
  "formats": ({ env: { IMAGES } }) => attempts(Object.fromEntries(
    ["image/png", "image/jpeg", "image/webp"].map((format) => [format, () => made(IMAGES, [{ width: 20 }], { format, quality: 50 })]),
  )),
  "format: AVIF": ({ env: { IMAGES } }) => attempts({ made: () => made(IMAGES, [{ width: 20 }], { format: "image/avif" }) }),
  "format: GIF": ({ env: { IMAGES } }) => attempts({ made: () => made(IMAGES, [{ width: 20 }], { format: "image/gif" }) }),
  "raw pixels": ({ env: { IMAGES } }) => attempts({
    rgb: async () => (await (await IMAGES.input(image()).output({ format: "rgb" })).response().bytes()).length,
  }),
  "draw": ({ env: { IMAGES } }) => attempts({
    size: async () => {
      const drawn = IMAGES.input(image()).draw(IMAGES.input(image()).transform({ width: 10 }), { left: 0, opacity: 0.5 });
      const { width, height } = await IMAGES.info((await drawn.output({ format: "image/png" })).image());
      return { width, height };
    },
  }),
  "a transformer is used once": ({ env: { IMAGES } }) => attempts({
    twice: async () => {
      const input = IMAGES.input(image());
      await input.output({ format: "image/png" });
      await input.output({ format: "image/png" });
    },
  }),
  "base64": ({ env: { IMAGES } }) => attempts({
    both: async () => {
      const encoded = new Response(new Response(PNG).body).body;
      const result = await IMAGES.input(encoded, { encoding: "base64" }).output({ format: "image/png" });
      return (await new Response(result.image({ encoding: "base64" })).text()).slice(0, 22);
    },
  }),
  "options of the wrong type": ({ env: { IMAGES } }) => attempts({
    width: () => made(IMAGES, [{ width: "20" }]),
  }),
};
