// What is chosen, and which images that lets through.

const START = {
  out: data.outs.length > 1 ? ALL : 0,
  mode: data.modes.length > 1 ? ALL : 0,
  style: 0,
  target: 0,
  status: "",
  verdict: "",
  known: -1,
  text: "",
  sort: "name",
  first: true,
};
const state = { ...START };
let shown = []; // places in `images`
let bare = 0; // so many of them, the first, are failures without a picture: they get low cards
let current = 0; // place in `shown` of the card that the Tab key reaches

const shownOuts = () => (state.out === ALL ? OUTS : [state.out]);
const mainOut = () => shownOuts()[0]; // the one that is sorted by
const mainTarget = (image) => targetOf(image, mainOut(), state.target);
const failsHere = (image) => shownOuts().some((out) => isFailure(image, out));
const isBareHere = (image) => failsHere(image) && shownOuts().every((out) => isBare(image, out));

/** Whether the folders differ in what they take the image for; undefined where one of them does not say it. */
function differs(image) {
  const [one, other] = OUTS.map((out) => targetOf(image, out, state.target));
  return one && other ? one.label !== other.label : undefined;
}

const sure = (target) => target?.probability ?? target?.score ?? -Infinity;
const RANKS = new Map([[true, 0], [false, 1], [undefined, 2]]);
/** True first, then false, then what is not known; among them, the surest first. */
const byVerdict = (verdict) => [(image) => RANKS.get(verdict(image)), (image) => -sure(mainTarget(image))];
const isWrong = (image) => (isRight(image, mainOut()) === undefined ? undefined : !isRight(image, mainOut()));

const SORTS = {
  name: ["Name"],
  wrong: ["Wrong ones first", ...byVerdict(isWrong)],
  differ: ["Differing ones first", ...byVerdict(differs)],
  "score-": ["Score, highest first", (image) => -(mainTarget(image)?.score ?? -Infinity)],
  "score+": ["Score, lowest first", (image) => mainTarget(image)?.score ?? Infinity],
  "output-": ["Probability, highest first", (image) => -(mainTarget(image)?.probability ?? -Infinity)],
  "output+": ["Probability, lowest first", (image) => mainTarget(image)?.probability ?? Infinity],
  "time-": ["Newest first", (image) => -Date.parse(sideOf(image, mainOut()).time)],
  "time+": ["Oldest first", (image) => Date.parse(sideOf(image, mainOut()).time)],
};

const haystacks = [];
function haystack(at) {
  const image = images[at];
  haystacks[at] ??= [
    givenName(image),
    image.truth ?? "",
    ...OUTS.flatMap((out) => [
      sideOf(image, out).as ?? "",
      ...Object.keys(sideOf(image, out).targets ?? {}).map((target) => targetOf(image, out, target).label),
      ...(sideOf(image, out).error ?? []),
    ]),
  ].join("\n").toLowerCase();
  return haystacks[at];
}

const VERDICTS = {
  right: ["Right", (image) => shownOuts().every((out) => isRight(image, out) === true)],
  wrong: ["Wrong", (image) => shownOuts().some((out) => isRight(image, out) === false)],
};

function passes(image, at) {
  if (state.status && !shownOuts().some((out) => statusOf(image, out) === state.status)) return false;
  if (state.verdict && !VERDICTS[state.verdict][1](image)) return false;
  if (state.known >= 0 && !shownOuts().some((out) => targetOf(image, out, state.target)?.known === state.known)) return false;
  return state.text.toLowerCase().split(/\s+/).every((word) => haystack(at).includes(word));
}

function select() {
  const keys = SORTS[state.sort].slice(1).map((key) => images.map(key));
  const late = images.map((image) => (state.first ? (isBareHere(image) ? 0 : failsHere(image) ? 1 : 2) : 0));
  shown = [...images.keys()].filter((at) => passes(images[at], at));
  // Infinity - Infinity is no number: images without a score stay in the order of their names.
  const compare = (a, b) => keys.reduce((found, key) => found || key[a] - key[b], late[a] - late[b]);
  shown.sort((a, b) => compare(a, b) || a - b);
  bare = state.first ? shown.findIndex((at) => !isBareHere(images[at])) : 0;
  if (bare < 0) bare = shown.length;
  current = 0;
  tell();
}

/** How many there are, in words. */
function tell() {
  const numberOf = (test) => shown.filter((at) => test(images[at])).length;
  const [failures, wrong] = [numberOf(failsHere), numberOf(VERDICTS.wrong[1])];
  const some = shown.length === images.length ? "" : ` of ${images.length.toLocaleString("en")}`;
  byId("count").textContent = [
    shown.length.toLocaleString("en") + some + (images.length === 1 ? " image" : " images"),
    ...(failures ? [`${failures.toLocaleString("en")} failed`] : []),
    ...(wrong ? [`${wrong.toLocaleString("en")} wrong`] : []),
  ].join(", ");
  byId("empty").hidden = shown.length > 0;
  byId("reset").hidden = images.length === 0;
  byId("empty").firstElementChild.textContent = images.length ? "No image fits this filter." : "No image has been explained here yet.";
}
