package s3_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/rootstock-cf/rootstock/internal/versitygw"
	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/s3"
	"github.com/rootstock-cf/rootstock/store/storetest"
)

const bucket = "repositories"

func options(server *versitygw.Server, prefix string) s3.Options {
	return s3.Options{
		Bucket: bucket, Prefix: prefix, Endpoint: server.URL, Region: versitygw.Region,
		AccessKey: versitygw.AccessKey, SecretKey: versitygw.SecretKey,
	}
}

func open(t testing.TB, o s3.Options) *s3.Store {
	t.Helper()
	s, err := s3.Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContract(t *testing.T) {
	server := versitygw.Start(t, bucket)
	var n atomic.Int64
	storetest.Run(t, func(t *testing.T) store.Store {
		return open(t, options(server, fmt.Sprintf("test%d.example.org", n.Add(1))))
	})
}

// A repository may have the bucket for itself.
func TestContractWithoutPrefix(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		return open(t, options(versitygw.Start(t, bucket), ""))
	})
}
