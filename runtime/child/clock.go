package child

import "time"

// ticks reads the processor's counter that the interpreter stores too.
func ticks() uint64

// clock pairs the counter with the time of day, so that ticks become durations.
type clock struct {
	tick uint64
	at   time.Time
}

func now() clock { return clock{ticks(), time.Now()} }

// since is the duration from tick a to tick b, by the rate between two clocks.
func (c clock) since(start clock, a, b uint64) time.Duration {
	if c.tick <= start.tick || b <= a {
		return 0
	}
	rate := float64(c.at.Sub(start.at)) / float64(c.tick-start.tick)
	return time.Duration(float64(b-a) * rate)
}
