// What is chosen stands in the address, behind the #, so that it survives a reload and can be passed on.

const nameOf = (all) => ({ write: (value) => (value === ALL ? "all" : all[value]?.name), read: (text) => placeOf(all, text) });
function placeOf(all, text) {
  const place = text === "all" ? ALL : all.findIndex((one) => one.name === text);
  return place >= 0 || text === "all" ? place : undefined;
}
const oneOf = (known) => ({ write: (value) => value, read: (text) => (known().includes(text) ? text : undefined) });
const named = (names) => names.map((name) => ({ name }));
const className = (known) => data.classes[known].join(" ");

/** Name in the address -> what of the state it is, how it is written and read; undefined for what this page does not know. */
const PARTS = {
  folder: ["out", nameOf(data.outs)],
  mode: ["mode", nameOf(data.modes)],
  style: ["style", nameOf(data.styles)],
  target: ["target", nameOf(named(data.targets))],
  status: ["status", oneOf(() => Object.keys(WORDS))],
  verdict: ["verdict", oneOf(() => Object.keys(VERDICTS))],
  class: ["known", { write: className, read: (text) => placeOf(data.classes.map((one, i) => ({ name: className(i) })), text) }],
  q: ["text", { write: (text) => text, read: (text) => text }],
  sort: ["sort", oneOf(() => sorts)],
  mixed: ["first", { write: () => "yes", read: (text) => text !== "yes" }],
};
/** The same of what the lightbox shows, where that is not what the list shows. */
const LOOKS = Object.fromEntries(["mode", "style", "target"].map((name) => [`see-${name}`, [name, PARTS[name][1]]]));

const times = new Map();
for (const image of images) times.set(image.name, (times.get(image.name) ?? 0) + 1);
const nameIn = (image) => (times.get(image.name) > 1 ? givenName(image) : image.name);

function written() {
  const found = new URLSearchParams();
  for (const [key, [name, { write }]] of Object.entries(PARTS)) {
    if (state[name] !== START[name]) found.set(key, write(state[name]));
  }
  if (box.open) {
    found.set("image", nameIn(images[shown[look.at]]));
    for (const [key, [name, { write }]] of Object.entries(LOOKS)) {
      if (look[name] !== looksFirst(name)) found.set(key, write(look[name]));
    }
    if (blends.has(look.style)) found.set("blend", blends.get(look.style));
    if (isZoomed()) found.set("zoom", look.zoom);
  }
  return found.toString();
}

function write(how = "replaceState", kept = history.state) {
  clearTimeout(writing);
  const text = written();
  if (how === "replaceState" && `#${text}` === (location.hash || "#")) return;
  try {
    history[how](kept, "", text ? `#${text}` : location.pathname + location.search);
  } catch {
    // some browsers let a page do this so often, or for a file not at all: it works without
  }
}

let writing;
function remember() {
  clearTimeout(writing);
  writing = setTimeout(write, 150); // a slider moves often
}

/** The lightbox opens as a page of its own, so that Back closes it. */
function enter() {
  write("pushState", { opened: true });
}
function leave() {
  if (history.state?.opened) history.back();
  else write();
}

/** Take over what the address says; what it does not say, or says of another page, is as at the start. */
function apply() {
  const said = new URLSearchParams(location.hash.slice(1));
  const read = (parts, into, first) => {
    for (const [key, [name, { read }]] of Object.entries(parts)) {
      const value = said.has(key) ? read(said.get(key)) : undefined;
      into[name] = value === undefined || (value === ALL && first(name) !== ALL) ? first(name) : value;
    }
  };
  read(PARTS, state, (name) => START[name]);
  tools();
  select();
  redraw();
  const wanted = said.has("image") ? images.findIndex((image) => nameIn(image) === said.get("image")) : -1;
  if (wanted < 0) return box.open ? box.close() : undefined;
  if (!shown.includes(wanted)) {
    clearFilter();
    tools();
    select();
    redraw();
  }
  look.at = shown.indexOf(wanted);
  read(LOOKS, look, looksFirst);
  const [blended, zoomed] = ["blend", "zoom"].map((key) => (said.has(key) ? Number(said.get(key)) : NaN));
  if (blended >= 0 && blended <= 100) blends.set(look.style, Math.round(blended));
  look.zoom = ZOOMS.some(([value]) => value === zoomed) ? zoomed : FIT;
  opened();
}
addEventListener("popstate", () => {
  if (written() !== location.hash.slice(1)) apply();
});
