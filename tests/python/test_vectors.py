# SPDX-License-Identifier: MIT
"""The Python module reads and writes the messages of tests/data/vectors: PROTOCOL.md has two implementations that agree."""

import json
import os
import pathlib
import unittest

from fdbroker import protocol

VECTORS = json.loads((pathlib.Path(os.environ["FDBROKER_TEST_DATA"]) / "vectors" / "messages.json").read_text())
READERS = {
    "hello": protocol.read_hello,
    "hello_reply": protocol.read_hello_reply,
    "requests": protocol.read_requests,
    "replies": protocol.read_replies,
    "end": protocol.read_end,
}


def requests_of(vector):
    return [
        protocol.Request(one["id"], one["call"], one["path"].encode(), one["flags"], one["mode"],
                         bytes.fromhex(one.get("payload", "")))
        for one in vector["requests"]
    ]


def replies_of(vector):
    return [
        protocol.Reply(one["id"], one["status"], one["descriptor"], one["step"], one["record"], one["reason"],
                       bytes.fromhex(one.get("payload", "")))
        for one in vector["replies"]
    ]


def fields_and_bytes(vector):
    """The result that reading must yield, and that writing must yield."""
    kind = vector["type"]
    if kind == "hello":
        return None, protocol.write_hello()
    if kind == "hello_reply":
        reply = protocol.HelloReply(vector["oldest_version"], vector["newest_version"], vector["max_requests"],
                                    vector["max_message"], vector["calls"])
        return reply, protocol.write_hello_reply(reply)
    if kind == "requests":
        requests, whole = requests_of(vector), vector.get("all_or_nothing", False)
        return (requests, whole, vector["cpu"]), protocol.write_requests(requests, whole, vector["cpu"])
    if kind == "replies":
        replies = replies_of(vector)
        return replies, protocol.write_replies(replies)
    return (vector["errno"], vector["reason"]), protocol.write_end(vector["errno"], vector["reason"])


class Vectors(unittest.TestCase):
    def test_a_valid_message_is_read_and_written_as_it_is(self):
        for vector in VECTORS["valid"]:
            with self.subTest(vector["name"]):
                fields, written = fields_and_bytes(vector)
                self.assertEqual(READERS[vector["type"]](bytes.fromhex(vector["hex"])), fields)
                self.assertEqual(written.hex(), vector["hex"])

    def test_an_invalid_message_is_refused(self):
        for vector in VECTORS["invalid"]:
            with self.subTest(vector["name"]):
                with self.assertRaises(protocol.ProtocolError):
                    READERS[vector["type"]](bytes.fromhex(vector["hex"]))

    def test_there_are_vectors(self):
        self.assertGreater(len(VECTORS["valid"]), 20)
        self.assertGreater(len(VECTORS["invalid"]), 50)


if __name__ == "__main__":
    unittest.main()
