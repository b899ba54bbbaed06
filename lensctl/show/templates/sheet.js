"use strict";
(() => {
  const views = [...document.querySelectorAll("button.view")];
  const dialog = document.getElementById("large");
  const shown = dialog.querySelector("img");
  const about = dialog.querySelector(".about");
  let current = 0;
  let large = 0;

  const choose = (index, { focus = true } = {}) => {
    if (!views[index]) return;
    views[current].tabIndex = -1;
    current = index;
    views[current].tabIndex = 0;
    if (!focus) return;
    views[current].focus({ preventScroll: true });
    views[current].closest(".picture").scrollIntoView({ block: "nearest", inline: "nearest" });
  };

  const middle = (view) => {
    const box = view.getBoundingClientRect();
    return { x: box.left + box.width / 2, y: box.top + box.height / 2, height: box.height };
  };

  // The picture straight above or below: the nearest row first, then the nearest column in it.
  const neighbour = (direction) => {
    const here = middle(views[current]);
    let best = -1;
    let distance = Infinity;
    views.forEach((view, index) => {
      const there = middle(view);
      const rise = (there.y - here.y) * direction;
      if (rise < here.height / 2) return;
      const far = rise * 10 + Math.abs(there.x - here.x);
      if (far < distance) { distance = far; best = index; }
    });
    return best;
  };

  const show = () => {
    large = current;
    const view = views[large];
    const picture = view.querySelector("img");
    shown.src = picture.src;
    shown.alt = picture.alt;
    about.replaceChildren(
      ...[...view.closest(".picture").querySelector("figcaption").children].map((part) => part.cloneNode(true)),
    );
  };

  const step = (by) => {
    if (!views[current + by]) return;
    choose(current + by, { focus: false });
    show();
  };

  const open = (index) => {
    choose(index, { focus: false });
    show();
    if (!dialog.open) dialog.showModal();
  };

  const moves = {
    ArrowLeft: () => current - 1,
    ArrowRight: () => current + 1,
    ArrowUp: () => neighbour(-1),
    ArrowDown: () => neighbour(1),
    Home: () => 0,
    End: () => views.length - 1,
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in moves) || !views.length) return;
    if (dialog.open) {
      if (event.key === "ArrowLeft") step(-1);
      if (event.key === "ArrowRight") step(1);
      return;
    }
    if (document.activeElement.closest(".scroll")) return;
    event.preventDefault();
    const started = views.includes(document.activeElement);
    choose(started ? moves[event.key]() : current);
  });

  views.forEach((view, index) => {
    view.tabIndex = index ? -1 : 0;
    view.addEventListener("click", () => open(index));
    view.addEventListener("focus", () => choose(index, { focus: false }));
  });
  // The browser gives the focus back to the picture that was opened; we go on from the last shown.
  dialog.addEventListener("close", () => choose(large));
  dialog.addEventListener("click", (event) => { if (event.target === dialog || event.target === shown) dialog.close(); });
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.querySelector(".previous").addEventListener("click", () => step(-1));
  dialog.querySelector(".next").addEventListener("click", () => step(1));
})();
