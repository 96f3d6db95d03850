// The page: shows what the server's messages say (demos/sinks/web/view.py).
"use strict";

const COLOURS = ["#56b4e9", "#f5a03c", "#3ccd8c", "#f5d250", "#e182c8", "#f0695a", "#46c3cd", "#fa9696"];
const GREY = "#8a919c";
const MINUTE_S = 60;
const BANNER_MS = 1600;

const at = (id) => document.getElementById(id);
let labels = [];
let enter = 1;
let history = [];
let events = [];
let newest = null;
let paused = false;
let over = false;
let bannerEnds = 0;
let own = null;
let offered = false;
let live = null;

const colour = (index) => labels[index] && !labels[index].silent ? COLOURS[index % COLOURS.length] : GREY;
const element = (name, text, className) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
};

function hello(message) {
  over = false;
  labels = message.labels;
  enter = message.enter;
  history = [];
  // The two clocks may differ: events are placed by how long ago they were.
  const ahead = Date.now() / 1000 - message.wall_s;
  events = message.events.map((each) => ({ ...each, shown_s: each.wall_s + ahead }));
  at("camera").textContent = `${message.camera} · ${message.model} · ${message.engine}`;
  at("labels").replaceChildren(...labels.map((label, index) => {
    const item = element("li"), row = element("div", undefined, "row"), track = element("div", undefined, "track");
    const bar = element("div", undefined, "bar");
    bar.style.background = colour(index);
    row.append(element("span", label.name), element("span", "0%"));
    track.append(bar);
    item.append(row, track);
    return item;
  }));
  threshold(enter);
  at("clip").hidden = !message.records;
  if (message.own && !own && !offered) {
    offered = true;
    at("said").textContent = "No camera of the machine is shown: this device's own is.";
    ownCamera();
  }
  listEvents();
}

function threshold(value) {
  enter = value;
  at("enter").value = value;
  at("enter-words").textContent = `${Math.round(100 * value)}%`;
}

// The server does it, for everybody who looks on.
async function ask(what) {
  const answer = await fetch("/ask", { method: "POST", body: JSON.stringify(what) });
  if (answer.headers.get("Content-Type").startsWith("application/json")) return answer.json();
  return { error: await answer.text() };
}

function recorded(told) {
  at("keep").hidden = !told.can_keep;
  at("said").textContent = told.error || (told.kept ? `Kept as ${told.kept}.` : told.complaints.join(" "));
}

at("enter").oninput = () => at("enter-words").textContent = `${Math.round(100 * at("enter").value)}%`;
at("enter").onchange = () => ask({ enter: Number(at("enter").value) });
at("keep").onclick = async () => recorded(await ask({ keep: true }));
at("settings").onsubmit = async (event) => {
  event.preventDefault();
  at("record").disabled = true;
  for (let left = 3; left; left--) {
    at("said").textContent = `${left} ...`;
    await new Promise((done) => setTimeout(done, 1000));
  }
  at("said").textContent = "Recording.";
  try {
    recorded(await ask({ label: at("label").value.trim(), seconds: Number(at("seconds").value) }));
  } catch (error) {
    at("said").textContent = `Nothing was recorded: ${error.message}`;
  }
  at("record").disabled = false;
};

function listEvents() {
  at("events").replaceChildren(...events.slice(-8).reverse().map((each) => element("li",
    `${new Date(each.shown_s * 1000).toLocaleTimeString()}  ${each.label}  ${Math.round(100 * each.confidence)}%`)));
}

function gesture(event) {
  events.push({ ...event, shown_s: Date.now() / 1000 });
  events = events.slice(-100);
  listEvents();
  at("gesture").textContent = event.label;
  at("confidence").textContent = `${Math.round(100 * event.confidence)}%`;
  at("banner").style.borderColor = colour(labels.findIndex((label) => label.name === event.label));
  at("banner").hidden = false;
  bannerEnds = performance.now() + BANNER_MS;
}

async function picture(message, bytes) {
  history.push({ s: Date.now() / 1000, p: message.probabilities });
  if (paused) return;
  await draw(message, new Blob([bytes], { type: "image/jpeg" }));
}

async function draw(message, blob) {
  newest = blob;
  const image = await createImageBitmap(newest);
  const canvas = at("picture");
  if (canvas.width !== image.width || canvas.height !== image.height) {
    canvas.width = image.width;
    canvas.height = image.height;
  }
  canvas.getContext("2d").drawImage(image, 0, 0);
  image.close();
  message.probabilities.forEach((share, index) => {
    const item = at("labels").children[index];
    if (!item) return;
    item.querySelector(".bar").style.width = `${100 * share}%`;
    item.querySelector(".row").lastChild.textContent = `${Math.round(100 * share)}%`;
  });
}

function timeline() {
  const canvas = at("timeline"), wide = canvas.clientWidth, high = 120, scale = window.devicePixelRatio || 1;
  canvas.width = wide * scale;
  canvas.height = high * scale;
  const draw = canvas.getContext("2d"), now = Date.now() / 1000;
  draw.scale(scale, scale);
  history = history.filter((each) => each.s > now - MINUTE_S);
  const x = (s) => wide - (now - s) * wide / MINUTE_S, y = (p) => high - 6 - p * (high - 36);
  draw.strokeStyle = getComputedStyle(document.body).getPropertyValue("--line");
  for (const p of [0, enter]) {
    draw.beginPath();
    draw.moveTo(0, y(p));
    draw.lineTo(wide, y(p));
    draw.stroke();
  }
  draw.lineWidth = 2;
  labels.forEach((label, index) => {
    if (label.silent) return;
    draw.strokeStyle = colour(index);
    draw.beginPath();
    history.forEach((each, place) => place ? draw.lineTo(x(each.s), y(each.p[index])) : draw.moveTo(x(each.s), y(each.p[index])));
    draw.stroke();
  });
  draw.font = "13px system-ui, sans-serif";
  for (const each of events) {
    const left = x(each.shown_s);
    if (left < 0) continue;
    draw.fillStyle = colour(labels.findIndex((label) => label.name === each.label));
    draw.fillRect(left - 1, 20, 2, high - 26);
    draw.beginPath();
    draw.arc(left, 22, 5, 0, 7);
    draw.fill();
    draw.fillStyle = getComputedStyle(document.body).color;
    draw.fillText(each.label, Math.max(Math.min(left - 20, wide - 110), 0), 13);
  }
}

const pair = (shares) => shares ? `p50 ${shares[0].toFixed(1)} ms, p99 ${shares[1].toFixed(1)} ms` : "not known";

function figures(found) {
  const rows = [
    ["Camera to result", pair(found.latency_ms)], ["Model step", pair(found.step_ms)],
    ["Camera to page", pair(found.page_ms)],
    ["Frames", found.frames], ["Dropped", found.dropped], ["Too old", found.stale],
    ["Gestures", found.events], ["Viewers", found.viewers],
    ["CPU of this process", `${found.cores.toFixed(2)} cores`],
  ];
  if (found.busy !== null) rows.push(["CPU of the board", `${Math.round(100 * found.busy)}%`]);
  for (const [zone, degrees] of Object.entries(found.celsius)) rows.push([zone, `${degrees} °C`]);
  if (found.throttled !== null) rows.push(["Slowed down", found.throttled ? "yes, now" : "no"]);
  at("figures").replaceChildren(...rows.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

// Dark blue over green to yellow: told apart by brightness too.
const heat = (v) => [Math.max(0, 2 * v - 1) * 250 + 20, 20 + 210 * v, 60 + 120 * Math.sin(Math.PI * Math.min(v + .15, 1))];

function states(message, bytes) {
  if (paused) return;
  const shelf = at("states");
  if (shelf.children.length !== message.maps.length) {
    shelf.replaceChildren(...message.maps.map((map) => {
      const figure = element("figure"), canvas = element("canvas", undefined, at("mirror").ariaPressed === "true" ? "mirrored" : "");
      canvas.width = map.width;
      canvas.height = map.height;
      figure.append(canvas, element("figcaption", `${map.channels} × ${map.height} × ${map.width}`));
      return figure;
    }));
  }
  let start = 0;
  message.maps.forEach((map, index) => {
    const draw = shelf.children[index].firstChild.getContext("2d");
    const pixels = draw.createImageData(map.width, map.height);
    for (let place = 0; place < map.width * map.height; place++) {
      const [red, green, blue] = heat(bytes[start + place] / 255);
      pixels.data.set([red, green, blue, 255], 4 * place);
    }
    start += map.width * map.height;
    draw.putImageData(pixels, 0, 0);
  });
}

function open(path) {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`);
  socket.binaryType = "arraybuffer";
  return socket;
}

// This device's camera: a JPEG goes out when the last one was answered.
async function ownCamera() {
  if (own) {
    own.close();
    return;
  }
  if (!navigator.mediaDevices) {
    at("link").textContent = "a browser gives its camera to https and to this machine alone: start with --cert";
    return;
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480, facingMode: "user" } });
  } catch (error) {
    at("link").textContent = `no camera: ${error.message}`;
    return;
  }
  const video = element("video"), canvas = element("canvas"), socket = open("/camera");
  own = socket;
  press(at("own"), true);
  history = [];
  video.muted = video.playsInline = true;
  video.srcObject = stream;
  let sent = null, sentAt = 0;
  const send = () => {
    if (socket.readyState !== WebSocket.OPEN) return;
    const scale = Math.min(640 / video.videoWidth, 1);
    canvas.width = Math.round(video.videoWidth * scale);
    canvas.height = Math.round(video.videoHeight * scale);
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => {
      if (socket.readyState !== WebSocket.OPEN) return;
      sent = blob;
      sentAt = performance.now();
      socket.send(blob);
    }, "image/jpeg", 0.8);
  };
  socket.onopen = async () => {
    at("link").textContent = "this device's camera";
    await video.play();
    send();
  };
  socket.onmessage = async ({ data }) => {
    const message = JSON.parse(data);
    history.push({ s: Date.now() / 1000, p: message.probabilities });
    if (message.event) gesture(message.event);
    if (!paused) await draw(message, sent);
    setTimeout(send, Math.max(0, 33 - (performance.now() - sentAt)));
  };
  socket.onclose = ({ reason }) => {
    for (const track of stream.getTracks()) track.stop();
    own = null;
    press(at("own"), false);
    at("link").textContent = reason || "live";
    if (live.readyState === WebSocket.OPEN) live.close();
  };
}

function connect() {
  const socket = open("/live");
  live = socket;
  socket.onopen = () => { if (!own) at("link").textContent = "live"; };
  socket.onclose = () => {
    if (!own) at("link").textContent = over ? "the show is over" : "connection lost, trying again";
    setTimeout(connect, 2000);
  };
  socket.onmessage = async ({ data }) => {
    if (typeof data === "string") {
      const message = JSON.parse(data);
      if (message.kind === "hello") hello(message);
      else if (message.kind === "event") own || gesture(message);
      else if (message.kind === "enter") threshold(message.enter);
      else if (message.kind === "figures") figures(message);
      else if (message.kind === "end") over = true;
      return;
    }
    const length = new DataView(data).getUint32(0, true);
    const message = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    const bytes = new Uint8Array(data, 4 + length);
    try {
      if (own) return;
      if (message.kind === "picture") await picture(message, bytes);
      else states(message, bytes);
    } finally {
      if (socket.readyState === WebSocket.OPEN) socket.send("shown");
    }
  };
}

function press(button, on) {
  button.setAttribute("aria-pressed", on);
}

function mirror(on) {
  press(at("mirror"), on);
  for (const each of document.querySelectorAll("#picture, #states canvas")) each.classList.toggle("mirrored", on);
  localStorage.setItem("mirror", on);
}

const DOES = {
  c: ownCamera,
  m: () => mirror(at("mirror").ariaPressed !== "true"),
  p: () => {
    paused = !paused;
    press(at("pause"), paused);
  },
  s: () => {
    if (!newest) return;
    const link = element("a");
    link.href = URL.createObjectURL(newest);
    link.download = `shiftedge-${new Date().toISOString().replace(/[:.]/g, "-")}.jpg`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  },
};

at("mirror").onclick = DOES.m;
at("own").onclick = DOES.c;
at("pause").onclick = DOES.p;
at("snapshot").onclick = DOES.s;
document.onkeydown = (event) => {
  if (event.target.tagName !== "INPUT" && !event.ctrlKey && !event.altKey && !event.metaKey && !event.repeat && DOES[event.key]) DOES[event.key]();
};
mirror(localStorage.getItem("mirror") !== "false");
setInterval(() => {
  if (performance.now() > bannerEnds) at("banner").hidden = true;
  if (!paused && !document.hidden) timeline();
}, 100);
connect();
