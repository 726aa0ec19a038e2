// A buyer by BRC-121 on @bsv/sdk: asks for the price, makes a transaction for it, and asks again with the payment. What it got is a line of
// JSON on standard output.
//
//   node buyer.js {"url": .., "payer": .., "coin": {"funding": .., "vout": .., "satoshis": .., "key": ..}}
'use strict';
const { P2PKH, PrivateKey, ProtoWallet, PublicKey, Random, Transaction, Utils } = require('@bsv/sdk');

const { url, payer, coin } = JSON.parse(process.argv[2]);

async function buy() {
  const offer = await fetch(url, { method: 'POST' });
  if (offer.status !== 402) {
    throw new Error(`${offer.status}: ${await offer.text()}`);
  }
  const satoshis = Number(offer.headers.get('x-bsv-sats'));
  const payee = offer.headers.get('x-bsv-server');

  const wallet = new ProtoWallet(PrivateKey.fromHex(payer));
  const prefix = Utils.toBase64(Random(8));
  const time = Date.now().toString();
  const suffix = Utils.toBase64(Utils.toArray(time, 'utf8'));
  const { publicKey: sender } = await wallet.getPublicKey({ identityKey: true });
  const { publicKey: derived } = await wallet.getPublicKey({
    protocolID: [2, '3241645161d8'],
    keyID: `${prefix} ${suffix}`,
    counterparty: payee,
  });

  const key = PrivateKey.fromHex(coin.key);
  const transaction = new Transaction();
  transaction.addInput({
    sourceTransaction: Transaction.fromAtomicBEEF(Utils.toArray(coin.funding, 'base64')),
    sourceOutputIndex: coin.vout,
    unlockingScriptTemplate: new P2PKH().unlock(key),
  });
  transaction.addOutput({ lockingScript: new P2PKH().lock(PublicKey.fromString(derived).toAddress()), satoshis });
  transaction.addOutput({ lockingScript: new P2PKH().lock(key.toAddress()), satoshis: coin.satoshis - satoshis });
  await transaction.sign();

  const bought = await fetch(url, {
    method: 'POST',
    headers: {
      'x-bsv-beef': Utils.toBase64(transaction.toAtomicBEEF()),
      'x-bsv-sender': sender,
      'x-bsv-nonce': prefix,
      'x-bsv-time': time,
      'x-bsv-vout': '0',
    },
  });
  console.log(JSON.stringify({ offered: satoshis, status: bought.status, receipt: await bought.json() }));
}

buy().catch((error) => {
  console.error(error);
  process.exit(1);
});
