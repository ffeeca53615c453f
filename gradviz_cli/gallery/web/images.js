// What an image has, in one output folder or in two.

const FAILURES = ["failed", "zero", "nonfinite"];
const ALL = -1;
const OUTS = [...data.outs.keys()];

/** Pictures of each set by "mode,style,target": [place among the scales, end of the name, how it fades]. */
const sets = data.sets.map(
  (set) => new Map(set.map(([mode, style, target, suffix, fade], i) => [`${mode},${style},${target}`, [i, suffix, fade]])),
);
const isSheet = (style) => Boolean(data.styles[style]?.sheet);

/** What an output folder has of an image. */
const sideOf = (image, out) => (out ? image.other : image);
const isFailure = (image, out) => FAILURES.includes(sideOf(image, out).status);
const isBare = (image, out) => sideOf(image, out).set === undefined; // there is nothing to show but words
const address = (image) => image.url ?? image.name;
const givenName = (image) => data.folders[image.folder][0] + image.name;

function statusOf(image, out) {
  const { status } = sideOf(image, out);
  return status === "written" || status === "current" ? "done" : status;
}

// ---- where its pictures are: beside the page, or in it

const copies = JSON.parse(byId("copies")?.textContent ?? "null");
const KINDS = { UklG: "webp", "/9j/": "jpeg" }; // by their first bytes
const copy = (place) => (copies[place] ? `data:image/${KINDS[copies[place].slice(0, 4)]};base64,${copies[place]}` : null);

function sourceOf(image) {
  if (image.gone) return null;
  return copies ? (image.input === undefined ? null : copy(image.input)) : data.folders[image.folder][1] + address(image);
}
const whyGone = (image) => GONE[image.gone] ?? UNSHOWN;

/** A picture by what it shows; null where there is none. A style that is a sheet shows every mode. */
function pictureOf(image, out, mode, style, target) {
  const side = sideOf(image, out);
  if (side.set === undefined) return null;
  const found = sets[side.set].get(`${isSheet(style) ? ALL : mode},${style},${target}`);
  if (!found) return null;
  const [place, suffix, fade] = found;
  const url = copies ? copy(side.inside[place]) : data.outs[out].base + (side.at ?? address(image)) + suffix;
  return url && { url, scale: side.scales[place], fade: data.fades[fade] };
}

function targetOf(image, out, target) {
  const found = sideOf(image, out).targets?.[target];
  if (!found) return null;
  const [known, rank, score, output] = found;
  const [index, label] = data.classes[known];
  // Where the score is what feeds a final softmax or sigmoid, the output is a probability.
  const probable = output !== null && output >= 0 && output <= 1 && Math.abs(output - score) > 1e-6;
  return { known, index, rank, score, label: label || (index < 0 ? "" : `class ${index}`), probability: probable ? output : null };
}

/** Whether the best class is the one that the image's folder is named after; undefined where that is not known. */
const isRight = (image, out) => sideOf(image, out).right;
