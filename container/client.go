package container

import (
	"encoding/binary"
	"os"
	"sync"
	"time"
)

// maxWaiting bounds what waits for a client that reads slowly.
const maxWaiting = 256 << 10

// A client is one attach. Its frames are queued and written by a goroutine of
// its own: the container's end never waits for a client.
type client struct {
	f     *os.File
	first bool // started the container: its end of input is the container's, as docker's StdinOnce

	mu      sync.Mutex
	changed *sync.Cond
	queue   []byte // whole frames
	skipped uint64 // bytes of output that had no room
	over    bool   // the container has ended
	last    bool   // nothing more will be queued
	gone    bool
	flushed chan struct{} // closed by the writer
}

func newClient(f *os.File, first bool) *client {
	c := &client{f: f, first: first, flushed: make(chan struct{})}
	c.changed = sync.NewCond(&c.mu)
	return c
}

// output queues what the container wrote. Without room the first client holds
// the running container back, as a terminal does that was stopped, for it is to
// get all; the others miss something and are told. Once the container has ended
// all of the little that is left is taken.
func (c *client) output(t frame, p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.first && !c.gone && !c.over && len(c.queue) >= maxWaiting {
		c.changed.Wait()
	}
	if !c.first && !c.over && len(c.queue)+len(p) > maxWaiting {
		c.skipped += uint64(len(p))
		return
	}
	if c.skipped > 0 {
		c.add(frameSkipped, binary.BigEndian.AppendUint64(nil, c.skipped))
		c.skipped = 0
	}
	c.add(t, p)
}

// send queues a frame that is not the container's output.
func (c *client) send(t frame, p []byte) {
	c.mu.Lock()
	c.add(t, p)
	c.mu.Unlock()
}

func (c *client) add(t frame, p []byte) {
	if !c.gone {
		c.queue = appendFrame(c.queue, t, p)
		c.changed.Broadcast()
	}
}

// ended tells whether the container has; before it starts again it has not.
func (c *client) ended(over bool) {
	c.mu.Lock()
	c.over = over
	c.changed.Broadcast()
	c.mu.Unlock()
}

// bye queues the last frame.
func (c *client) bye(t frame, p []byte) {
	c.mu.Lock()
	c.add(t, p)
	c.last = true
	c.changed.Broadcast()
	c.mu.Unlock()
}

// write sends what is queued until the last frame or until the client leaves.
func (c *client) write() {
	defer close(c.flushed)
	for {
		c.mu.Lock()
		for len(c.queue) == 0 && !c.gone && !c.last {
			c.changed.Wait()
		}
		b := c.queue
		c.queue = nil
		gone := c.gone
		c.changed.Broadcast()
		c.mu.Unlock()
		if gone || len(b) == 0 {
			return
		}
		if _, err := c.f.Write(b); err != nil {
			c.leave()
			return
		}
	}
}

func (c *client) leave() {
	c.mu.Lock()
	c.gone = true
	c.changed.Broadcast()
	c.mu.Unlock()
	c.f.Close() // ends a Write that waits
}

// clientGrace is how long the monitor stays, after all has been recorded, for
// an attached client that does not read.
const clientGrace = 5 * time.Second

// wait returns when all has been sent. The one that started the container gets
// all it wrote, however slowly it reads.
func (c *client) wait() {
	if c.first {
		<-c.flushed
		return
	}
	select {
	case <-c.flushed:
	case <-time.After(clientGrace):
	}
}
