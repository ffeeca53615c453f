// The picture itself: a map over its input, side by side for two folders, blended and zoomed.

const [frame, blend] = ["frame", "blend"].map(byId);
const MIXED = 60; // percent of the map when the lightbox opens
const STEP = 10; // percent that one key press moves the blend
const FIT = 0;
const ZOOMS = [[FIT, "fit"], [1, "1:1"], [2, "2:1"], [4, "4:1"]]; // pixels of the screen for one of the picture

const look = { at: 0, mode: 0, style: 0, target: 0, zoom: FIT };
const blends = new Map(); // style -> percent, as last chosen
const pan = [0.5, 0.5]; // what is seen of a zoomed picture, as shares of what is not
let panes = []; // {node, image, map, input, fade, why}

/** The maps of an image, one for each folder that is shown. */
function stage(image) {
  panes = shownOuts().map((out) => pane(image, out));
  frame.replaceChildren(...panes.map(({ out, node }) => (panes.length > 1 ? half(image, out, node) : node)));
  judge();
}

const half = (image, out, node) =>
  make("div", { className: "half" }, make("p", {}, make("b", {}, data.outs[out].name), ` ${lookedAt(image, out)}`), node);

function pane(image, out) {
  const picture = pictureOf(image, out, look.mode, look.style, look.target);
  const source = isSheet(look.style) ? null : sourceOf(image);
  const kind = isSheet(look.style) ? "all modes" : data.modes[look.mode]?.name;
  const input = source && imageOf(source, `Input image ${image.name}`, "", { className: "input" });
  const alt = `${data.styles[look.style]?.name}, ${kind}, for ${targetOf(image, out, look.target)?.label}`;
  const map = picture && imageOf(picture.url, alt, "The picture is gone; run explain again.", { className: "map" });
  const node = make("div", { className: "pane" }, ...[input, map].filter(Boolean));
  if (!map) {
    const [title, message] = sideOf(image, out).error ?? ["", "There is no picture for this choice."];
    node.append(make("div", { className: "message" }, make("b", {}, title), make("span", {}, message)));
    input?.classList.add("faint");
  }
  for (const img of [map, input]) {
    img?.addEventListener("load", judge);
    img?.addEventListener("absent", judge);
  }
  node.addEventListener("scroll", () => panned(node));
  node.style.setProperty("--aspect", sideOf(image, out).aspect ?? 1);
  return { node, out, image, map, input, fade: picture?.fade, why: "" };
}

const isLoaded = (img) => Boolean(img?.isConnected && img.complete && img.naturalWidth > 0);

/** Why a map is not shown over its input: both have to be there and cover the same ground, as after a crop they do not. */
function whyAlone({ image, map, input }) {
  const both = isLoaded(map) && isLoaded(input);
  const ratio = both ? (input.naturalWidth / input.naturalHeight) * (map.naturalHeight / map.naturalWidth) : 1;
  if (isSheet(look.style)) return "A panel shows the input itself.";
  if (image.gone) return `${GONE[image.gone]}: only the map is shown.`;
  if (!input || !input.isConnected) return "This browser cannot show the image: only the map is shown.";
  if (Math.abs(ratio - 1) < 0.02) return "";
  return "The map has the shape of the model input, not of the image: only the map is shown. --size image draws one that fits.";
}

/** Again whenever a picture has come, or failed to. */
function judge() {
  for (const one of panes) {
    one.why = whyAlone(one);
    if (one.input) one.input.hidden = Boolean(one.why);
    if (isLoaded(one.map)) {
      one.node.style.setProperty("--aspect", one.map.naturalWidth / one.map.naturalHeight);
      box.style.setProperty("--aspect", one.map.naturalWidth / one.map.naturalHeight);
    }
  }
  const maps = panes.filter((one) => one.map?.isConnected);
  const why = maps.find((one) => one.why)?.why ?? "";
  blend.disabled = !maps.some((one) => !one.why);
  byId("blend-field").hidden = !maps.length;
  byId("blend-why").textContent = why;
  byId("blend-why").hidden = !why;
  mix(blends.get(look.style) ?? (data.styles[look.style]?.name === "overlay" ? 100 : MIXED));
  zoom();
}

// ---- blend

function mix(value) {
  const now = blend.disabled ? 100 : value;
  blend.value = now;
  blend.setAttribute("aria-valuetext", `${now} percent map, ${100 - now} percent input`);
  byId("blend-value").textContent = `${now}\u00a0%`;
  blend.style.setProperty("--at", `${now}%`);
  panes.forEach((one, i) => one.map && overlay(one, i, one.why ? 1 : now / 100));
  for (const button of byId("strip").children) {
    const pressed = button.dataset.mode === "input" ? now === 0 : now > 0 && Number(button.dataset.mode) === look.mode;
    button.setAttribute("aria-pressed", pressed);
  }
}

/**
 * A map over its input. Each pixel is as opaque as it is strong, to the power (1 - share) / share: at a half its opacity
 * is its strength; above, weaker ones come up, to the whole map at 1; below, only the strongest stay. A map whose colours
 * do not tell the strength is opaque by the share.
 */
function overlay({ map, fade }, i, share) {
  const within = fade && share > 0 && share < 1;
  map.style.opacity = within ? 1 : share;
  map.style.filter = within ? `url(#fade${i})` : "";
  if (!within) return;
  const power = (1 - share) / share;
  const table = fade.map((strength) => (strength ** power).toFixed(3));
  document.querySelector(`#fade${i} feFuncA`).setAttribute("tableValues", table.join(" "));
}

function setBlend(value) {
  if (blend.disabled) return;
  const now = Math.min(100, Math.max(0, value));
  blends.set(look.style, now);
  mix(now);
  remember();
}
blend.addEventListener("input", () => setBlend(Number(blend.value)));
blend.addEventListener("pointerup", () => byId("box-title").focus()); // the arrows step again

// ---- zoom

const isZoomed = () => look.zoom !== FIT;

function zoom() {
  for (const { node, map, input } of panes) {
    const widths = [map, input].filter((img) => isLoaded(img) && !img.hidden).map((img) => img.naturalWidth);
    const zoomed = isZoomed() && widths.length > 0;
    node.classList.toggle("zoomed", zoomed);
    node.classList.toggle("large", look.zoom > 1);
    node.style.setProperty("--wide", `${(Math.max(...widths, 1) * look.zoom) / devicePixelRatio}px`);
    for (const [name, value] of [["tabindex", "0"], ["role", "group"], ["aria-label", "Picture, moved by the arrow keys"]]) {
      if (zoomed) node.setAttribute(name, value);
      else node.removeAttribute(name);
    }
    seen(node);
  }
}

function setZoom(value, at = pan) {
  [pan[0], pan[1]] = at;
  look.zoom = value;
  zoom();
  zoomChoice();
  remember();
}

function zoomBy(by) {
  const place = ZOOMS.findIndex(([value]) => value === look.zoom) + by;
  if (ZOOMS[place]) setZoom(ZOOMS[place][0]);
}

function zoomChoice() {
  const focused = byId("box-zoom").contains(document.activeElement);
  byId("box-zoom").replaceChildren(chooser("zoom", "Zoom", ZOOMS, look.zoom, (value) => setZoom(value)));
  if (focused) byId("box-zoom").querySelector(":checked").focus();
}

const hiddenPart = (node) => [node.scrollWidth - node.clientWidth, node.scrollHeight - node.clientHeight];

/** Show the part that is panned to. */
function seen(node) {
  const [x, y] = hiddenPart(node);
  node.scrollTo(Math.round(pan[0] * x), Math.round(pan[1] * y));
}

function panned(node) {
  const [x, y] = hiddenPart(node);
  if (!node.classList.contains("zoomed")) return;
  if (x > 0) pan[0] = node.scrollLeft / x;
  if (y > 0) pan[1] = node.scrollTop / y;
  for (const other of panes) if (other.node !== node) seen(other.node);
}

function panBy(x, y) {
  const [{ node }] = panes;
  node.scrollBy((x * node.clientWidth) / 4, (y * node.clientHeight) / 4);
}

let grip = null; // where a mouse holds a zoomed picture
frame.addEventListener("pointerdown", (event) => {
  if (event.pointerType === "mouse" && event.button === 0 && event.target.closest(".zoomed")) {
    grip = { node: event.target.closest(".zoomed"), x: event.clientX, y: event.clientY };
  }
});
addEventListener("pointermove", (event) => {
  if (!grip) return;
  grip.node.scrollBy(grip.x - event.clientX, grip.y - event.clientY);
  Object.assign(grip, { x: event.clientX, y: event.clientY });
});
addEventListener("pointerup", () => (grip = null));
frame.addEventListener("dblclick", (event) => {
  const picture = event.target.closest("img")?.getBoundingClientRect();
  if (!picture) return;
  const at = [(event.clientX - picture.x) / picture.width, (event.clientY - picture.y) / picture.height];
  setZoom(isZoomed() ? FIT : 1, at);
});
