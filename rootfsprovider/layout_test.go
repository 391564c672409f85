package rootfsprovider_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/rootstock-cf/rootstock/rootfsprovider/ociimage"
)

// layout writes an image layout as Guardian does for preloaded+layer, with a
// stack's path and a droplet.
func layout(t testing.TB, stack string, droplet *ociimage.Layer) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "image")
	blobs := filepath.Join(dir, "blobs", "sha256")
	must(t, os.MkdirAll(blobs, 0o755))
	put := func(v any) map[string]any {
		text, err := json.Marshal(v)
		must(t, err)
		sum := sha256.Sum256(text)
		must(t, os.WriteFile(filepath.Join(blobs, hex.EncodeToString(sum[:])), text, 0o644))
		return map[string]any{"digest": "sha256:" + hex.EncodeToString(sum[:]), "size": len(text)}
	}
	made := sha256.Sum256([]byte(stack + "-1234567890"))
	must(t, os.Symlink(stack, filepath.Join(blobs, hex.EncodeToString(made[:]))))
	layers := []any{map[string]any{
		"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": "sha256:" + hex.EncodeToString(made[:]),
	}}
	if droplet != nil {
		layers = append(layers, map[string]any{
			"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": droplet.Digest, "urls": droplet.URLs,
			"annotations": map[string]string{"org.cloudfoundry.experimental.image.base-directory": droplet.Dir},
		})
	}
	config := put(map[string]any{"rootfs": map[string]any{"type": "layers"}})
	manifest := put(map[string]any{"schemaVersion": 2, "config": config, "layers": layers})
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []any{manifest}})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644))
	return dir
}
