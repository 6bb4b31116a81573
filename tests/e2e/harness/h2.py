# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 by hand over a unix socket: frames as a broken or hostile client would send them, which no gRPC library would.

Headers are sent as literals without Huffman coding or indexing; those that come back are decoded as far as the tests
look at them."""

import socket
import struct
import time

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, ACK, PADDED, PRIO = 1, 4, 1, 8, 32
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags=0, stream=0, payload=b"", length=None):
    length = len(payload) if length is None else length
    return struct.pack(">I", length)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _string(text):
    data = text if isinstance(text, bytes) else text.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest, out = len(data) - 127, b"\x7f"
    while rest >= 128:
        out += bytes([rest % 128 + 128])
        rest //= 128
    return out + bytes([rest]) + data


def block(headers):
    return b"".join(b"\x00" + _string(k) + _string(v) for k, v in headers)


def request(path, more=(), method="POST", content_type="application/grpc"):
    return [
        (":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost"),
        ("content-type", content_type), ("te", "trailers"), *more,
    ]


def message(data, compressed=0):
    return bytes([compressed]) + struct.pack(">I", len(data)) + data


class Connection:
    """One connection; frames that came are in self.frames as (kind, flags, stream, payload)."""

    def __init__(self, daemon, preface=True, settings=b"", timeout=20):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(str(daemon.socket))
        self.buffer, self.frames, self.closed = b"", [], False
        self.headers, self.table = {}, []
        if preface:
            self.send(PREFACE + frame(SETTINGS, 0, 0, settings))

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self.closed = True

    def call(self, stream, path, data=b"", more=(), end=True, compressed=0):
        self.send(frame(HEADERS, END_HEADERS, stream, block(request(path, more))))
        self.send(frame(DATA, END_STREAM if end else 0, stream, message(data, compressed)))

    def read(self, until, seconds=20):
        """Read frames until until(frame) is true; None if the connection ends before."""
        end = time.monotonic() + seconds
        while True:
            while len(self.buffer) >= 9:
                length = int.from_bytes(self.buffer[:3], "big")
                if len(self.buffer) < 9 + length:
                    break
                kind, flags, stream = self.buffer[3], self.buffer[4], int.from_bytes(self.buffer[5:9], "big") & 0x7FFFFFFF
                got = (kind, flags, stream, self.buffer[9 : 9 + length])
                self.buffer = self.buffer[9 + length :]
                self.frames.append(got)
                if kind == HEADERS:
                    self.headers.setdefault(stream, []).append(dict(decode(got[3], self.table)))
                if kind == SETTINGS and not flags & ACK:
                    self.send(frame(SETTINGS, ACK))
                if kind == PING and not flags & ACK:
                    self.send(frame(PING, ACK, 0, got[3]))
                if until(got):
                    return got
            assert time.monotonic() < end, f"no such frame within {seconds} s: {self.frames[-5:]}"
            try:
                data = self.socket.recv(65536)
            except (ConnectionResetError, BrokenPipeError):
                data = b""
            if not data:
                self.closed = True
                return None
            self.buffer += data

    def ended(self, stream, seconds=20):
        """How a stream ended: ("status", n) by trailers, ("reset", code), ("goaway", code) or ("closed", None)."""

        def over(f):
            return (f[2] == stream and (f[0] == RST or f[1] & END_STREAM and f[0] in (HEADERS, DATA))) or f[0] == GOAWAY

        f = self.read(over, seconds)
        if f is None:
            return ("closed", None)
        if f[0] == RST:
            return ("reset", int.from_bytes(f[3], "big"))
        if f[0] == GOAWAY:
            return ("goaway", int.from_bytes(f[3][4:8], "big"))
        last = self.headers[stream][-1]
        return ("status", int(last["grpc-status"])) if "grpc-status" in last else ("http", int(last.get(":status", 0)))

    def end_of_connection(self, seconds=20):
        """The error code of GOAWAY, or None where the peer just closed."""
        f = self.read(lambda f: f[0] == GOAWAY, seconds)
        return int.from_bytes(f[3][4:8], "big") if f else None

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


_STATIC = {8: (":status", "200"), 9: (":status", "204"), 13: (":status", "404"), 14: (":status", "500"), 31: ("content-type", "")}
def _integer(data, at, bits):
    value = data[at] & ((1 << bits) - 1)
    at += 1
    if value == (1 << bits) - 1:
        shift = 0
        while True:
            value += (data[at] & 127) << shift
            shift += 7
            at += 1
            if not data[at - 1] & 128:
                break
    return value, at


def _text(data, at):
    coded = data[at] & 128
    length, at = _integer(data, at, 7)
    raw = data[at : at + length]
    if not coded:
        return raw.decode(errors="replace"), at + length
    return _unhuffman(raw), at + length


# The part of HPACK's Huffman table that header names, digits and status texts of ASCII need: character → code as bits.
_CODES = {
    "0": "00000", "1": "00001", "2": "00010", "a": "00011", "c": "00100", "e": "00101", "i": "00110", "o": "00111",
    "s": "01000", "t": "01001", " ": "010100", "%": "010101", "-": "010110", ".": "010111", "/": "011000",
    "3": "011001", "4": "011010", "5": "011011", "6": "011100", "7": "011101", "8": "011110", "9": "011111",
    "=": "100000", "A": "100001", "_": "100010", "b": "100011", "d": "100100", "f": "100101", "g": "100110",
    "h": "100111", "l": "101000", "m": "101001", "n": "101010", "p": "101011", "r": "101100", "u": "101101",
    ":": "1011100", "B": "1011101", "C": "1011110", "D": "1011111", "E": "1100000", "F": "1100001", "G": "1100010",
    "H": "1100011", "I": "1100100", "J": "1100101", "K": "1100110", "L": "1100111", "M": "1101000", "N": "1101001",
    "O": "1101010", "P": "1101011", "Q": "1101100", "R": "1101101", "S": "1101110", "T": "1101111", "U": "1110000",
    "V": "1110001", "W": "1110010", "Y": "1110011", "j": "1110100", "k": "1110101", "q": "1110110", "v": "1110111",
    "w": "1111000", "x": "1111001", "y": "1111010", "z": "1111011", "&": "11111000", "*": "11111001", ",": "11111010",
    ";": "11111011", "X": "11111100", "Z": "11111101", "!": "1111111000", '"': "1111111001", "(": "1111111010",
    ")": "1111111011", "?": "1111111100", "'": "11111111010", "+": "11111111011", "|": "11111111100",
}
_DECODE = {bits: c for c, bits in _CODES.items()}


def _unhuffman(raw):
    bits, out, at = "".join(f"{b:08b}" for b in raw), "", ""
    for bit in bits:
        at += bit
        if at in _DECODE:
            out += _DECODE[at]
            at = ""
    return out


def decode(data, table):
    """Headers of a block, as far as these tests need them; table is the connection's dynamic table."""
    found, at = [], 0

    def known(index):
        if index > 61:
            return table[index - 62] if index - 62 < len(table) else ("?", "?")
        return _STATIC.get(index, (f"static-{index}", ""))

    while at < len(data):
        first = data[at]
        if first & 128:
            index, at = _integer(data, at, 7)
            found.append(known(index))
            continue
        if first & 0xE0 == 0x20:
            _, at = _integer(data, at, 5)
            continue
        index, at = _integer(data, at, 6 if first & 0x40 else 4)
        name = known(index)[0]
        if not index:
            name, at = _text(data, at)
        value, at = _text(data, at)
        found.append((name, value))
        if first & 0x40:
            table.insert(0, (name, value))
    return found
