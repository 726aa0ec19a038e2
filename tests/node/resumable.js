// The official JavaScript client, as its documentation shows it. What it does is a line of JSON on standard output.
//
//   node resumable.js {"endpoint": .., "key": .., "file": .., ...}
'use strict';
const fs = require('fs');
const tus = require('tus-js-client');

const wanted = JSON.parse(process.argv[2]);
const file = fs.readFileSync(wanted.file);

function say(what) {
  console.log(JSON.stringify(what));
}

const upload = new tus.Upload(file, {
  endpoint: wanted.endpoint,
  uploadUrl: wanted.uploadUrl || null,
  headers: { Authorization: `Bearer ${wanted.key}` },
  metadata: { filename: 'film.mp4', filetype: 'video/mp4', ...wanted.metadata },
  chunkSize: wanted.chunkSize || Infinity,
  parallelUploads: wanted.parallelUploads || 1,
  uploadDataDuringCreation: wanted.uploadDataDuringCreation || false,
  overridePatchMethod: wanted.overridePatchMethod || false,
  metadataForPartialUploads: {},
  retryDelays: [100, 300, 1000, 3000],
  onChunkComplete: (_, accepted) => {
    // The caller ends this process, and the upload goes on in another.
    if (wanted.stopAt && accepted >= wanted.stopAt) {
      say({ url: upload.url, accepted });
      process.exit(0);
    }
  },
  onError: (error) => {
    say({ url: upload.url, error: String(error) });
    process.exit(1);
  },
  onSuccess: () => {
    if (!wanted.terminate) {
      say({ url: upload.url });
      return;
    }
    tus.Upload.terminate(upload.url, { headers: { Authorization: `Bearer ${wanted.key}` } }).then(() => say({ url: upload.url }));
  },
});
upload.start();
