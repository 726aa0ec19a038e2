// Delivery mode "direct": how the edge of a CDN verifies the URLs that the node gives, here for nginx with njs (Debian:
// libnginx-mod-http-js); config/nginx-cdn.conf shows where it goes. A worker of another CDN does the same few steps.
//
//   PATH?expires=SECONDS[&key=ID]&type=TYPE&disposition=DISPOSITION&signature=HEX
//
// The signature is HMAC-SHA256, keyed with the bytes of the signing key, of all before "&signature=" exactly as it stands in the
// request: nothing decoded, nothing sorted, nothing added.
import crypto from 'crypto';

const SIGNATURE = '&signature=';

// Whether the request is one that the node has given the right to, and still good.
function verify(r) {
    const uri = r.variables.request_uri;
    const end = uri.lastIndexOf(SIGNATURE);
    if (end < 0) {
        return 'no';
    }
    const signed = uri.substring(0, end);
    const key = r.variables.penstock_signing_key;
    const expected = crypto.createHmac('sha256', key).update(signed).digest('hex');
    if (!key || !same(expected, uri.substring(end + SIGNATURE.length))) {
        return 'no';
    }
    return Date.now() < Number(said(signed, 'expires')) * 1000 ? 'yes' : 'no';
}

// Says what the URL wants to be said of the content, which was verified before, and what a browser may do with it: strangers have
// uploaded it, so no script of it runs, and pages of every origin may show it. A video that is opened by itself is a page that asks
// for the same address again, so it stays of this origin.
function describe(r) {
    if (r.status === 200 || r.status === 206) {
        const type = decodeURIComponent(said(r.variables.request_uri, 'type'));
        r.headersOut['Content-Type'] = type;
        r.headersOut['Content-Disposition'] = decodeURIComponent(said(r.variables.request_uri, 'disposition'));
        r.headersOut['Content-Security-Policy'] = /^(audio|video)\//i.test(type)
            ? "sandbox allow-same-origin; default-src 'none'; media-src 'self'"
            : "sandbox; default-src 'none'";
        r.headersOut['Cross-Origin-Resource-Policy'] = 'cross-origin';
        r.headersOut['X-Content-Type-Options'] = 'nosniff';
    }
}

// A parameter as it stands in the URL.
function said(uri, name) {
    const found = uri.match(new RegExp('[?&]' + name + '=([^&]*)'));
    return found ? found[1] : '';
}

// Takes as long for every signature, so that none can be found out letter by letter.
function same(one, other) {
    let different = one.length ^ other.length;
    for (let i = 0; i < one.length; i++) {
        different |= one.charCodeAt(i) ^ other.charCodeAt(i);
    }
    return different === 0;
}

export default { verify, describe };
