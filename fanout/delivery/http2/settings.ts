/** SETTINGS both ways (RFC 9113 section 6.5): what a client's mean to us, and what we say. */
import {
  CODE,
  ConnectionError,
  DEFAULT_MAX_FRAME,
  DEFAULT_WINDOW,
  FLAG,
  MAX_MAX_FRAME,
  MAX_WINDOW,
  SETTING,
  settingsFrame,
  windowUpdateFrame,
} from "./frames.ts";
import type { Http2Limits } from "./limits.ts";

const SETTING_BYTES = 6;

/** True: it acknowledges ours. Throws ConnectionError for a frame that is none of the two. */
export function isSettingsAck(flags: number, streamId: number, payload: Buffer): boolean {
  if (streamId !== 0) throw new ConnectionError(CODE.protocolError, "SETTINGS on a stream");
  const isAck = (flags & FLAG.ack) !== 0;
  if (isAck && payload.length !== 0) throw new ConnectionError(CODE.frameSizeError, "an acknowledgement has no settings");
  if (!isAck && payload.length % SETTING_BYTES !== 0) throw new ConnectionError(CODE.frameSizeError, "a setting has 6 bytes");
  return isAck;
}

/**
 * Checks every setting, and tells each INITIAL_WINDOW_SIZE in order. The others ask nothing of us: our encoder has no table, our frames are the smallest that a
 * peer must take, and our header lists are short. Throws ConnectionError.
 */
export function readSettings(payload: Buffer, onInitialWindow: (bytes: number) => void): void {
  for (let at = 0; at < payload.length; at += SETTING_BYTES) {
    const value = payload.readUInt32BE(at + 2);
    switch (payload.readUInt16BE(at)) {
      case SETTING.enablePush:
        if (value > 1) throw new ConnectionError(CODE.protocolError, `ENABLE_PUSH is ${value}`);
        break;
      case SETTING.maxFrameSize:
        if (value < DEFAULT_MAX_FRAME || value > MAX_MAX_FRAME) throw new ConnectionError(CODE.protocolError, `MAX_FRAME_SIZE is ${value}`);
        break;
      case SETTING.initialWindowSize:
        if (value > MAX_WINDOW) throw new ConnectionError(CODE.flowControlError, `INITIAL_WINDOW_SIZE is ${value}`);
        onInitialWindow(value);
        break;
      default:
        break;
    }
  }
}

/** What the server says first: its settings, and the connection's window made as large as the limits have it. */
export function greeting({ maxStreams, maxHeaderListBytes, streamWindowBytes, connectionWindowBytes }: Http2Limits): readonly Buffer[] {
  return [
    settingsFrame([
      [SETTING.maxConcurrentStreams, maxStreams],
      [SETTING.initialWindowSize, streamWindowBytes],
      [SETTING.maxHeaderListSize, maxHeaderListBytes],
    ]),
    windowUpdateFrame(0, connectionWindowBytes - DEFAULT_WINDOW),
  ];
}
