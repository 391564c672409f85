package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// The limits of a connection. A response has more time, by its size: see allow.
const (
	headerTime     = 10 * time.Second
	requestTime    = 30 * time.Second
	idleTime       = 2 * time.Minute
	maxHeaderBytes = 16 << 10
)

// Server serves a handler over HTTP/1.1, or TLS, until it is told to stop. Its fields
// are not to be changed once it serves.
type Server struct {
	Handler http.Handler
	// Quick, if not nil, answers what it can before Handler is asked. It is
	// not used with TLS.
	Quick *Quick
	Log   *slog.Logger
	// Grace is how long responses under way may still take when the server
	// is told to stop.
	Grace time.Duration
	// TLS, if not nil, is what [TLS] made; HTTP/2 is spoken then, too.
	TLS *tls.Config
}

// Serve accepts connections from l, and closes it in the end. When ctx is
// done it accepts no more, lets responses under way end within Grace, and
// returns nil, or an error that wraps context.DeadlineExceeded if it had to cut
// some off.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           s.Handler,
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       requestTime,
		WriteTimeout:      baseTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	var quick *quickListener
	if s.Quick != nil && s.TLS == nil {
		quick = &quickListener{Listener: l, quick: s.Quick, grace: s.Grace}
		server.ConnState = noteState
	}
	ended := make(chan error, 1)
	go func() {
		if quick != nil {
			ended <- server.Serve(quick)
			return
		}
		if s.TLS == nil {
			ended <- server.Serve(l)
			return
		}
		server.TLSConfig = s.TLS
		ended <- server.ServeTLS(l, "", "")
	}()
	select {
	case err := <-ended:
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Grace)
	defer cancel()
	err := server.Shutdown(grace)
	if err != nil {
		err = errors.Join(fmt.Errorf("stop serving on %s: responses were cut off: %w", l.Addr(), err), server.Close())
	}
	<-ended //nolint:errcheck // said by Shutdown
	if quick != nil {
		quick.late.Wait()
	}
	return err
}
