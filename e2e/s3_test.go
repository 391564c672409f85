package e2e_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rootstock-cf/rootstock/internal/versitygw"
)

// s3server BUCKET
//
// Starts a real S3 server with that bucket. S3_URL, S3_KEY, S3_SECRET and
// S3_REGION say how to reach it, and so does the file s3.conf, in the form of
// stock CernVM-FS. S3_DIR is where the server keeps what it has.
func cmdS3Server(t *testing.T, ts *testscript.TestScript, args []string) {
	s := versitygw.Start(t, args[0])
	ts.Setenv("S3_URL", s.URL)
	ts.Setenv("S3_DIR", s.Dir)
	ts.Setenv("S3_KEY", versitygw.AccessKey)
	ts.Setenv("S3_SECRET", versitygw.SecretKey)
	ts.Setenv("S3_REGION", versitygw.Region)
	conf := fmt.Sprintf("CVMFS_S3_HOST=%s\nCVMFS_S3_ACCESS_KEY=%s\nCVMFS_S3_SECRET_KEY=%s\nCVMFS_S3_REGION=%s\n",
		s.URL[len("http://"):], versitygw.AccessKey, versitygw.SecretKey, versitygw.Region)
	ts.Check(os.WriteFile(ts.MkAbs("s3.conf"), []byte(conf), 0o600))
}
