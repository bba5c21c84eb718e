// The page of `benchmarks.browser`, and its worker: the other end of bare data channels. It takes bytes,
// throws them away and acknowledges on the control channel; or it sends random ones. One file for both.
// Two pages meet by `call`, `meet` and `take`, in this order.

const inPage = typeof document !== "undefined";
const HIGH_WATER = 2 * 1024 * 1024; // bytes that may be queued, as in the web client

function listen({ control, data, share, ack, starts }) {
  let got = 0;
  let told = 0;
  data.binaryType = "arraybuffer";
  if (starts) control.onopen = () => control.send("0");
  data.onmessage = ({ data: message }) => {
    got += message.byteLength;
    if (got - told >= ack || got >= share) {
      told = got;
      control.send(new TextEncoder().encode(String(got)));
    }
  };
}

/** Send once anything has come by the control channel, which then tells how much has arrived. */
function send({ control, data, share, window, messageSize }) {
  const message = new Uint8Array(messageSize);
  for (let at = 0; at < messageSize; at += 65536)
    crypto.getRandomValues(message.subarray(at, at + 65536));
  let [sent, acknowledged, began] = [0, 0, 0];
  const go = () => {
    while (sent < share && sent - acknowledged <= window - messageSize) {
      if (data.bufferedAmount > HIGH_WATER) return;
      const part = message.subarray(0, Math.min(messageSize, share - sent));
      data.send(part);
      sent += part.length;
    }
  };
  control.binaryType = "arraybuffer";
  data.bufferedAmountLowThreshold = HIGH_WATER / 4;
  data.onbufferedamountlow = go;
  control.onmessage = ({ data: told }) => {
    began ||= performance.now();
    acknowledged = Number(typeof told === "string" ? told : new TextDecoder().decode(told));
    go();
    if (!inPage && acknowledged === share) postMessage((performance.now() - began) / 1000);
  };
}

const carry = (how) => (how.sends ? send : listen)(how);

async function connect(connection, { worker, ...how }) {
  const create = (label, id) => connection.createDataChannel(label, { negotiated: true, id });
  const channels = { control: create("control", 0), data: create("data", 1) };
  if (worker) {
    // In the task that made them: a channel in use cannot be transferred any more.
    const other = new Worker("page.js");
    self.seconds = new Promise((done) => (other.onmessage = ({ data }) => done(data)));
    other.postMessage({ ...channels, ...how }, Object.values(channels));
  } else {
    carry({ ...channels, ...how });
  }
}

async function described(connection) {
  await connection.setLocalDescription();
  while (connection.iceGatheringState !== "complete") {
    await new Promise((done) => (connection.onicegatheringstatechange = done));
  }
  return connection.localDescription.sdp;
}

async function answer(offer, how) {
  const connection = new RTCPeerConnection();
  await connection.setRemoteDescription({ type: "offer", sdp: offer });
  await connect(connection, how);
  return { connection, sdp: await described(connection) };
}

if (inPage) {
  self.meet = async (offers, how) => {
    self.met = await Promise.all(offers.map((offer) => answer(offer, how)));
    return self.met.map(({ sdp }) => sdp);
  };
  self.call = async (how) => {
    self.called = new RTCPeerConnection();
    await connect(self.called, how);
    return described(self.called);
  };
  self.take = (answer) => self.called.setRemoteDescription({ type: "answer", sdp: answer });
} else {
  self.onmessage = ({ data }) => carry(data);
}
