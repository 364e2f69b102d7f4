"""The body of a watch as bytes: cut into lines, whatever way it is split. Sans-IO.

Must not know what a line means, nor import sockets or clocks; `sidecar.kube.client` moves the
bytes, `sidecar.sources.kubernetes.collection` reads the lines.
"""

#: No object is larger than 3 MiB (etcd's limit on requests is 1.5); beyond this it is no watch.
LINE_MAX_BYTES = 16 * 2**20


class LineFraming:
    """Feed it what arrived; it gives each line that became complete, without its newline.

    What is left when the stream ends is half a line: whoever resumes is sent it again.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # there is no newline before this offset

    def receive_data(self, data: bytes) -> list[bytes]:
        """Raises ValueError if what piles up cannot be a line."""
        self._buffer += data
        if self._buffer.find(b"\n", self._searched) < 0:
            self._searched = len(self._buffer)
            if len(self._buffer) > LINE_MAX_BYTES:
                raise ValueError(f"a line of more than {LINE_MAX_BYTES} bytes")
            return []
        *lines, self._buffer = self._buffer.split(b"\n")
        self._searched = len(self._buffer)
        return [bytes(line) for line in lines if line]
