'use strict';
// Plays the content that the fragment of the address names, `#<content hash>/<receipt id>`, and shows the quota of the receipt.

(() => {
  const EVERY = 1000;
  const STEP = 15;
  // A browser asks for a little more than what it plays next.
  const MARGIN = 256 * 1024;

  const element = (id) => document.getElementById(id);
  const media = element('media');
  const [hash, receipt] = location.hash.slice(1).split('/');
  const content = `/v1/streaming/data/${encodeURIComponent(hash)}?receiptId=${encodeURIComponent(receipt ?? '')}`;
  let size = null;
  let day = null;

  const say = (text) => { if (element('message').textContent !== text) element('message').textContent = text; };
  const bytes = (count) => `${(count / 1e6).toFixed(2)} MB`;
  const show = (id, count) => {
    element(id).textContent = bytes(count);
    element(id).dataset.bytes = count;
  };

  async function readQuota() {
    const answer = await fetch(`/v1/streaming/quotas/${encodeURIComponent(receipt)}`, { cache: 'no-store' });
    if (!answer.ok) throw new Error(`the node answers ${answer.status}`);
    day = (await answer.json()).windows.day;
    const left = Math.max(0, day.bytesAllowed - day.bytesUsed);
    show('left', left);
    show('used', day.bytesUsed);
    show('held', day.bytesReserved);
    element('again').textContent = new Date(day.windowEnd).toLocaleString();
    element('meter').max = day.bytesAllowed;
    element('meter').value = left;
    return left;
  }

  async function watch() {
    try {
      await readQuota();
    } catch {
      element('left').textContent = 'not known: the node does not answer';
    }
    setTimeout(watch, EVERY);
  }

  // A session of its own, so that the browser takes nothing from an earlier one.
  function play() {
    say('');
    media.src = `${content}&sessionId=${crypto.randomUUID()}`;
    start();
  }

  // A start that a later one replaces, or that fails, is rejected; `failed` says why it failed.
  function start() {
    media.play().catch(() => {});
  }

  function seek(seconds) {
    if (media.readyState > 0) media.currentTime = Math.min(media.duration, Math.max(0, media.currentTime + seconds));
  }

  // The node refuses a stream that the quota does not cover to its end; the browser says only that it cannot go on.
  async function failed() {
    const rest = size * (Number.isFinite(media.duration) ? 1 - media.currentTime / media.duration : 1);
    media.pause();
    try {
      const left = await readQuota();
      if (left < rest + MARGIN) {
        const again = new Date(day.windowEnd).toLocaleString();
        say(`The quota has ended: ${bytes(left)} are left today, and the rest of the content has ${bytes(rest)}. It begins again ${again}.`);
        return;
      }
      say('The node has refused the stream, or it broke off. Press “Play from the start” to try again.');
    } catch {
      say('The node does not answer. Press “Play from the start” when it does.');
    }
  }

  async function begin() {
    if (!hash || !receipt) {
      say('The address of this page names no content and no receipt. Open the address that penstock demo prints.');
      return;
    }
    // Shows the size, and costs nothing.
    const answer = await fetch(content, { method: 'HEAD', cache: 'no-store' });
    if (!answer.ok) {
      say(`The node does not give this content under this receipt: its answer is ${answer.status}.`);
      return;
    }
    size = Number(answer.headers.get('content-length'));
    media.src = content;
    media.addEventListener('error', failed);
    element('play').addEventListener('click', play);
    element('back').addEventListener('click', () => seek(-STEP));
    element('forward').addEventListener('click', () => seek(STEP));
    document.body.dataset.ready = 'true';
    watch();
  }

  begin().catch(() => say('The node does not answer. Load the page again when it does.'));
})();
