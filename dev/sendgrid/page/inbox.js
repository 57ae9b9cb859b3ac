// The inbox page. Whatever comes from a mail goes in as text, never as markup; its HTML is shown in a sandboxed frame only.
"use strict";

const REFRESH_MS = 2000;
const SHOWN = 200;
const $ = (id) => document.getElementById(id);

let mails = [];
let total = 0;
let openSeq = null;
let openMail = null;
let view = "html";
let shownView = "";

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function size(bytes) {
  return bytes < 1024 ? `${bytes} B` : bytes < 1048576 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1048576).toFixed(1)} MiB`;
}

function clock(seconds) {
  const at = new Date(seconds * 1000);
  const isToday = at.toDateString() === new Date().toDateString();
  return isToday ? at.toLocaleTimeString() : at.toLocaleString();
}

function say(isLive) {
  $("live").textContent = isLive ? "Live" : "Disconnected: trying again every 2 seconds";
  $("live").className = isLive ? "live on" : "live off";
}

async function refresh() {
  try {
    const search = encodeURIComponent($("search").value);
    const answer = await fetch(`/inbox/mails?limit=${SHOWN}&search=${search}`, { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    const page = await answer.json();
    const key = (list) => list.map((mail) => mail.seq).join();
    const isNew = key(page.data) !== key(mails) || page.total !== total;
    mails = page.data;
    total = page.total;
    say(true);
    if (isNew || !$("count").textContent) showList();
  } catch {
    say(false);
  }
}

function showList() {
  const searched = $("search").value !== "";
  $("count").textContent = total === 0 ? "No mails" : `${mails.length} of ${total} mails${searched ? " match" : ""}`;
  $("mails").replaceChildren(
    ...mails.map((mail) => {
      const row = element("li");
      row.id = `mail-${mail.seq}`;
      row.setAttribute("role", "option");
      row.setAttribute("aria-selected", String(mail.seq === openSeq));
      const top = element("div", undefined, "top");
      const time = element("time", clock(mail.at));
      time.dateTime = new Date(mail.at * 1000).toISOString();
      top.append(element("span", mail.to, "to"), time);
      row.append(top, element("div", mail.subject || "(no subject)", "about"));
      row.addEventListener("click", () => open(mail.seq));
      return row;
    }),
  );
  $("empty").hidden = mails.length > 0;
  $("empty").textContent = searched
    ? "No mail matches."
    : "Nothing has arrived yet.\n\nMails that are posted to /v3/mail/send appear here by themselves.";
  mark();
}

function mark() {
  for (const row of $("mails").children) row.setAttribute("aria-selected", String(row.id === `mail-${openSeq}`));
  if (openSeq !== null && $(`mail-${openSeq}`)) {
    $("mails").setAttribute("aria-activedescendant", `mail-${openSeq}`);
    $(`mail-${openSeq}`).scrollIntoView({ block: "nearest" });
  } else {
    $("mails").removeAttribute("aria-activedescendant");
  }
}

async function open(seq) {
  openSeq = seq;
  mark();
  try {
    const answer = await fetch(`/inbox/mails/${seq}`, { cache: "no-store" });
    if (seq !== openSeq) return;
    if (!answer.ok) {
      close("This mail is not here any more.");
      return;
    }
    openMail = await answer.json();
  } catch {
    say(false);
    return;
  }
  if (seq !== openSeq) return;
  location.replace(`#${seq}`);
  $("none").hidden = true;
  $("open").hidden = false;
  $("subject").textContent = openMail.subject || "(no subject)";
  $("summary").replaceChildren(...summary(openMail).flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  $("tab-html").disabled = !openMail.has_html;
  $("tab-text").disabled = openMail.text === null;
  const wanted = $(`tab-${view}`).disabled ? (openMail.has_html ? "html" : openMail.text !== null ? "text" : "headers") : view;
  show(wanted);
}

function close(why) {
  openSeq = openMail = null;
  $("open").hidden = true;
  $("none").hidden = false;
  if (why) $("none").firstElementChild.textContent = why;
  mark();
}

function summary(mail) {
  const pairs = mail.headers.filter(([name]) => ["From", "To", "Cc", "Bcc", "Reply-To"].includes(name));
  pairs.push(["Arrived", new Date(mail.at * 1000).toLocaleString()]);
  if (mail.categories.length) pairs.push(["Categories", mail.categories.join(", ")]);
  if (mail.template_id) pairs.push(["Template", mail.template_id]);
  for (const file of mail.attachments) {
    pairs.push(["Attachment", `${file.filename} (${file.type || "no type"}, ${size(file.size_bytes)})`]);
  }
  return pairs;
}

function show(name) {
  view = name;
  for (const tab of $("tabs").children) {
    const isChosen = tab.dataset.view === name;
    tab.setAttribute("aria-selected", String(isChosen));
    tab.tabIndex = isChosen ? 0 : -1;
    if (isChosen) $("view").setAttribute("aria-labelledby", tab.id);
  }
  const key = `${openMail.seq}/${name}`;
  if (key === shownView) return;
  shownView = key;
  $("view").replaceChildren(content(name));
}

function content(name) {
  if (name === "html") {
    const frame = element("iframe");
    frame.setAttribute("sandbox", "");
    frame.referrerPolicy = "no-referrer";
    frame.title = "The mail's HTML, without scripts and remote content";
    frame.src = `/inbox/mails/${openMail.seq}/html`;
    return frame;
  }
  if (name === "text") return element("pre", openMail.text);
  if (name === "headers") {
    const list = element("dl");
    const args = Object.entries(openMail.custom_args).map(([key, value]) => [`custom arg ${key}`, value]);
    for (const [key, value] of [...openMail.headers, ...args]) list.append(element("dt", key), element("dd", value));
    return list;
  }
  let text = openMail.source;
  try {
    text = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    // shown as it came
  }
  return element("pre", text);
}

function step(by) {
  if (!mails.length) return;
  const at = mails.findIndex((mail) => mail.seq === openSeq);
  const next = at < 0 ? (by > 0 ? 0 : mails.length - 1) : Math.min(Math.max(at + by, 0), mails.length - 1);
  open(mails[next].seq);
}

function tab(by) {
  const tabs = [...$("tabs").children].filter((one) => !one.disabled);
  const at = tabs.findIndex((one) => one.dataset.view === view);
  const next = tabs[(at + by + tabs.length) % tabs.length];
  show(next.dataset.view);
  next.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === $("search")) {
    if (event.key === "Escape") {
      $("search").value = "";
      $("search").blur();
      refresh();
    } else if (event.key === "ArrowDown") {
      event.preventDefault();
      $("mails").focus();
      step(1);
    }
    return;
  }
  const isTab = event.target.getAttribute("role") === "tab";
  const inView = $("view").contains(event.target);
  if (isTab && event.key === "ArrowRight") tab(1);
  else if (isTab && event.key === "ArrowLeft") tab(-1);
  else if (event.key === "j" || (event.key === "ArrowDown" && !inView)) step(1);
  else if (event.key === "k" || (event.key === "ArrowUp" && !inView)) step(-1);
  else if (event.key === "Home" && event.target === $("mails")) step(-mails.length);
  else if (event.key === "End" && event.target === $("mails")) step(mails.length);
  else if (event.key === "/") $("search").focus();
  else if (/^[1-4]$/.test(event.key) && openMail && !$("tabs").children[event.key - 1].disabled) {
    show($("tabs").children[event.key - 1].dataset.view);
  } else return;
  event.preventDefault();
});

for (const one of $("tabs").children) one.addEventListener("click", () => show(one.dataset.view));
$("search").addEventListener("input", refresh);
$("clear").addEventListener("click", async () => {
  if (total && !confirm(`Throw ${total} mails away?`)) return;
  try {
    await fetch("/inbox/mails", { method: "DELETE" });
    close("No mail is open.");
  } catch {
    say(false);
  }
  refresh();
});

refresh().then(() => {
  const asked = Number(location.hash.slice(1));
  if (asked) open(asked);
});
setInterval(() => document.hidden || refresh(), REFRESH_MS);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
