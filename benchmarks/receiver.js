// The receiving page of `benchmarks.browser`, and its worker: takes bytes, throws them away, and
// acknowledges on the control channel. One file for both, as they listen alike.

const inPage = typeof document !== "undefined";

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

async function answer(offer, { worker, ...how }) {
  const connection = new RTCPeerConnection();
  await connection.setRemoteDescription({ type: "offer", sdp: offer });
  const create = (label, id) => connection.createDataChannel(label, { negotiated: true, id });
  const channels = { control: create("control", 0), data: create("data", 1) };
  if (worker) {
    // In the task that made them: a channel in use cannot be transferred any more.
    new Worker("receiver.js").postMessage({ ...channels, ...how }, Object.values(channels));
  } else {
    listen({ ...channels, ...how });
  }
  await connection.setLocalDescription();
  while (connection.iceGatheringState !== "complete") {
    await new Promise((done) => (connection.onicegatheringstatechange = done));
  }
  return { connection, sdp: connection.localDescription.sdp };
}

if (inPage) {
  self.meet = async (offers, how) => {
    self.met = await Promise.all(offers.map((offer) => answer(offer, how)));
    return self.met.map(({ sdp }) => sdp);
  };
} else {
  self.onmessage = ({ data }) => listen(data);
}
