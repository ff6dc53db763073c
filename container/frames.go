package container

import (
	"encoding/binary"
	"io"
	"sync"
)

// What goes over the attach socket: frames of a type, a length (4 bytes, big
// endian) and as many bytes.
type frame byte

const (
	frameStdin   frame = 'i' // to the container; no bytes: end of input
	frameStdout  frame = 'o'
	frameStderr  frame = 'e'
	frameResize  frame = 'r' // rows and columns, 2 bytes each
	frameHangup  frame = 'h' // from the client that started it, who cannot write what comes
	frameSkipped frame = 's' // so many bytes of output, 8 bytes, were left out here
	frameTrace   frame = 't' // a step of the start, see traceFrame
	frameExit    frame = 'x' // the exit code, 4 bytes, and bits of how it came; the last frame
)

// How an end came, in frameExit.
const (
	exitOOM   = 1
	exitAsked = 2 // by stop, kill or rm -f
)

// maxFrame bounds what a reader takes into memory.
const maxFrame = 1 << 20

// frameWriter writes whole frames for several goroutines.
type frameWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (f *frameWriter) send(t frame, p []byte) error {
	b := appendFrame(nil, t, p)
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.w.Write(b)
	return err
}

func appendFrame(b []byte, t frame, p []byte) []byte {
	b = append(b, byte(t))
	b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
	return append(b, p...)
}

// readFrame reuses buf for the bytes.
func readFrame(r io.Reader, buf *[]byte) (frame, []byte, error) {
	var h [5]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(h[1:])
	if n > maxFrame {
		return 0, nil, io.ErrShortBuffer
	}
	if int(n) > cap(*buf) {
		*buf = make([]byte, n)
	}
	p := (*buf)[:n]
	_, err := io.ReadFull(r, p)
	return frame(h[0]), p, err
}

func sizeFrame(rows, cols uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, rows), cols)
}
