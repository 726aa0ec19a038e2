// Delivery mode "direct": how the edge of a CDN verifies the URLs that the node gives, here for nginx with njs (Debian:
// libnginx-mod-http-js); config/nginx-cdn.conf shows how to include it. An edge worker of another CDN does the same steps.
//
//   PATH?expires=SECONDS[&key=ID]&type=TYPE&disposition=DISPOSITION&signature=HEX
//
// The signature is HMAC-SHA256, keyed with the bytes of the signing key, of everything before "&signature=" exactly as in the
// request: without decoding, sorting or additions.
import crypto from 'crypto';

const SIGNATURE = '&signature=';

// Whether the node has signed the URL, and it has not expired.
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

// Sets the headers that the URL gives for the content (verified before), and the rights of the content in a browser: unknown users
// have uploaded it, so scripts are blocked, and pages of every origin may embed it. A video that a browser opens by itself is a page
// that requests the same address again, so it keeps this origin.
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

// A parameter as written in the URL.
function said(uri, name) {
    const found = uri.match(new RegExp('[?&]' + name + '=([^&]*)'));
    return found ? found[1] : '';
}

// Compares in constant time, so that a signature cannot be found out character by character.
function same(one, other) {
    let different = one.length ^ other.length;
    for (let i = 0; i < one.length; i++) {
        different |= one.charCodeAt(i) ^ other.charCodeAt(i);
    }
    return different === 0;
}

export default { verify, describe };
