package fusefs

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"
)

// Options are the settings of a connection. Only Mountpoint has no default.
type Options struct {
	// Mountpoint is an existing directory outside /dev.
	Mountpoint string

	// FSName is the source shown in mount tables; "rootstock" by default.
	FSName string

	// MaxRead is the largest READ in bytes and the window of the kernel's
	// read-ahead: 1 MiB by default, a multiple of the page size.
	MaxRead int

	// Readers is the number of threads that read the device: 2 by default.
	Readers int

	// Waiting bounds the goroutines for requests that have to wait: 64 by
	// default. Requests beyond stand in line, with their deadline running.
	// As many again may read local files at the same time.
	Waiting int

	// Deadline is the time after which a request's context ends (EIO): 30
	// seconds by default. Grace is how much longer, and after an interrupt
	// how long, its handler may take before it is answered without it: 1
	// second by default.
	Deadline time.Duration
	Grace    time.Duration

	// InFlight is where the requests that are read and not answered lie, so
	// that another process can answer them: see [NewInFlight]. Without it
	// they lie in memory of this process. The caller closes it, at any time
	// after the connection was made.
	InFlight *os.File

	// Device is st_dev of the mount of an adopted connection; 0 asks the
	// mountpoint, where something else may be mounted by now.
	Device uint64

	// Keep leaves the mount when Serve ends, for another process that has
	// the device.
	Keep bool

	// NoResend has an adopted connection answer what was left unanswered
	// from InFlight, also where the kernel could send it again.
	NoResend bool

	// NoXAttrs says that nothing shown on this connection, now or later, can
	// have an extended attribute. The kernel stops asking for good.
	NoXAttrs bool

	// Log receives mounting, unmounting and failures.
	Log *slog.Logger
}

// maxRead is what the kernel grants at most without being told otherwise: 256
// pages.
const maxRead = 1 << 20

func (o *Options) setDefaults() error {
	if o.FSName == "" {
		o.FSName = "rootstock"
	}
	if o.MaxRead == 0 {
		o.MaxRead = maxRead
	}
	if o.MaxRead < 0 || o.MaxRead > maxRead || o.MaxRead%os.Getpagesize() != 0 {
		return fmt.Errorf("largest read of %d bytes: must be a multiple of the page size up to %d", o.MaxRead, maxRead)
	}
	if o.Readers == 0 {
		o.Readers = 2
	}
	if o.Waiting == 0 {
		o.Waiting = 64
	}
	if o.Deadline == 0 {
		o.Deadline = 30 * time.Second
	}
	if o.Grace == 0 {
		o.Grace = time.Second
	}
	if o.Readers > maxReaders {
		return fmt.Errorf("%d readers: no more than %d", o.Readers, maxReaders)
	}
	if o.Readers < 0 || o.Waiting < 0 || o.Deadline < 0 || o.Grace < 0 {
		return errors.New("connection options: numbers and durations must not be negative")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}
