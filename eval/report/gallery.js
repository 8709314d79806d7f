"use strict";
// The gallery: which clips are listed, and a player for each that has frames. The page is whole without this script;
// what only works with it is hidden until then.
(() => {
  const gallery = document.getElementById("gallery");
  if (!gallery) return;
  const cards = [...gallery.querySelectorAll(".card")];
  const folded = (text) => text.normalize("NFC").toLowerCase();
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let stopOther = () => {};

  function setUpPlayer(card) {
    const timeline = card.querySelector(".timeline");
    const [button, range, told] = [".play", ".seek", ".told"].map((name) => card.querySelector(name));
    const last = Number(range.max) - 1;
    let timer = 0;

    function show(frame) {
      const at = Math.min(Math.max(frame, 0), last);
      card.style.setProperty("--at", at);
      range.value = at + 1;
      range.setAttribute("aria-valuetext", `frame ${at + 1} of ${last + 1}`);
      told.textContent = `${at + 1}/${last + 1}`;
    }
    function label(playing) {
      button.textContent = playing ? "❚❚" : "▶";
      button.setAttribute("aria-label", `${playing ? "Pause" : "Play"} clip ${card.dataset.id}`);
      card.classList.toggle("playing", playing);
    }
    function stop() {
      clearInterval(timer);
      timer = 0;
      label(false);
    }
    function step() {
      const at = Number(range.value) - 1;
      if (at < last) show(at + 1);
      else if (still.matches) stop(); // once, where less motion is asked for; else again and again
      else show(0);
    }
    function play() {
      stopOther();
      stopOther = stop;
      if (Number(range.value) - 1 >= last) show(0);
      const speed = Number(document.getElementById("speed").value);
      timer = setInterval(step, 1000 / (Number(card.dataset.rate) * speed));
      label(true);
    }
    const toggle = () => (timer ? stop() : play());

    button.addEventListener("click", toggle);
    range.addEventListener("input", () => { stop(); show(Number(range.value) - 1); });
    range.addEventListener("keydown", (event) => {
      if (event.key !== " ") return;
      event.preventDefault();
      toggle();
    });
    for (const track of timeline.querySelectorAll(".track")) {
      track.addEventListener("click", (event) => {
        const box = track.getBoundingClientRect();
        stop();
        show(Math.floor((event.clientX - box.left) / box.width * (last + 1)));
      });
    }
    card.addEventListener("leave", stop);
    label(false);
    show(0);
  }

  const search = document.getElementById("search");
  const kind = document.getElementById("kind");
  const count = document.getElementById("count");
  const texts = cards.map((card) => folded(
    [card.dataset.id, ...[...card.querySelectorAll(".said")].map((said) => said.textContent)].join(" ")));

  function filter() {
    const words = folded(search.value).split(/\s+/).filter(Boolean);
    const wanted = kind.value;
    let listed = 0;
    cards.forEach((card, place) => {
      const kinds = card.dataset.kinds.split(" ").filter(Boolean);
      // A search looks through all clips unless one kind is asked for.
      const fits = wanted === "chosen" ? kinds.length > 0 || words.length > 0
        : wanted === "all" || kinds.includes(wanted);
      const found = fits && words.every((word) => texts[place].includes(word));
      if (card.hidden === found) {
        card.hidden = !found;
        if (!found) card.dispatchEvent(new Event("leave"));
      }
      listed += found;
    });
    count.textContent = listed ? `${listed} of ${cards.length} clips` : "No clip has all of these words.";
  }

  document.getElementById("speed").addEventListener("change", () => stopOther());
  document.addEventListener("visibilitychange", () => document.hidden && stopOther());
  search.addEventListener("input", filter);
  kind.addEventListener("change", filter);
  for (const part of document.querySelectorAll(".needs-script")) part.hidden = false;
  cards.filter((card) => card.dataset.rate).forEach(setUpPlayer);
  filter();
})();
