package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"

	"github.com/minio/minio-go/v7"
)

// explain turns a failure of the client library into one that says what is
// wrong and what to do.
func (s *Store) explain(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) && !isStall(err) {
		return err
	}
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) {
		if isStall(err) {
			// net/http's time-outs are DeadlineExceeded, which callers would
			// take for their own.
			return fmt.Errorf("%s does not answer within %v", s.o.Endpoint, s.o.Timeout)
		}
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" {
			return fmt.Errorf("%s cannot be reached: %w; is the endpoint right (AWS_ENDPOINT_URL, or --s3-config)?", s.o.Endpoint, dial.Err)
		}
		return fmt.Errorf("%s: %w", s.o.Endpoint, err)
	}
	switch answer.Code {
	case minio.NoSuchBucket:
		return fmt.Errorf("%w: %s at %s; make it, or name another", ErrNoBucket, s.o.Bucket, s.o.Endpoint)
	case minio.NoSuchKey, "NotFound":
		return fs.ErrNotExist
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", minio.AccessDenied, "InvalidToken", "ExpiredToken", "AccountProblem",
		"XAdminUserNotFound": // versitygw's word for the first
		return fmt.Errorf("%w (%s): %s at %s; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give --s3-config", ErrCredentials, answer.Code, s.o.Bucket, s.o.Endpoint)
	}
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w (%s): %s at %s; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give --s3-config", ErrCredentials, answer.Code, s.o.Bucket, s.o.Endpoint)
	}
	return fmt.Errorf("%s answers %s (status %d): %w", s.o.Endpoint, answer.Code, answer.StatusCode, err)
}

func isStall(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout() && !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errStalled)
}

// refusedCondition reports whether a put was refused since its condition did
// not hold, or, with again, since another put of the same name was under way.
func refusedCondition(err error) (refused, again bool) {
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) {
		return false, false
	}
	switch {
	case answer.StatusCode == http.StatusPreconditionFailed || answer.Code == minio.PreconditionFailed:
		return true, false
	case answer.StatusCode == http.StatusConflict || answer.Code == "ConditionalRequestConflict":
		return true, true
	case answer.Code == minio.NoSuchKey: // If-Match of what was deleted meanwhile
		return true, false
	}
	return false, false
}
