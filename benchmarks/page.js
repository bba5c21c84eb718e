// The page of `benchmarks.browser`, and its worker: the other end of bare data channels. It takes bytes,
// throws them away and acknowledges on the control channel; or it sends random ones. One file for both.

const inPage = typeof document !== "undefined";
const HIGH_WATER = 2 * 1024 * 1024; // bytes that may be queued, as in the web client

function listen({ control, data, share, ack }) {
  let got = 0;
  let told = 0;
  data.binaryType = "arraybuffer";
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
  let [sent, acknowledged] = [0, 0];
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
    acknowledged = Number(new TextDecoder().decode(told));
    go();
  };
}

const carry = (how) => (how.sends ? send : listen)(how);

async function connect(connection, { worker, ...how }) {
  const create = (label, id) => connection.createDataChannel(label, { negotiated: true, id });
  const channels = { control: create("control", 0), data: create("data", 1) };
  if (worker) {
    // In the task that made them: a channel in use cannot be transferred any more.
    new Worker("page.js").postMessage({ ...channels, ...how }, Object.values(channels));
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
} else {
  self.onmessage = ({ data }) => carry(data);
}
