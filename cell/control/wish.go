package control

import "context"

// CallWish is the call of [Wisher].
const CallWish = "wish"

// Wisher is the part of the daemon that asks a publisher for what is not
// published. It is called concurrently.
type Wisher interface {
	// Wish notes that an image was looked for. It returns at once; whether
	// the publisher hears of it, and what it does, nobody is told.
	Wish(ctx context.Context, r WishRequest) error
}

// WishRequest names an image for a publisher.
type WishRequest struct {
	// URL is the publisher's, http or https.
	URL string `json:"url"`
	CA  string `json:"ca,omitempty"` // PEM certificates to trust instead of the system's
	// Token is a bearer token of the publisher's, "" for none.
	Token string `json:"token,omitempty"`
	// Image is REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@DIGEST.
	Image string `json:"image"`
}

// Wish implements [Wisher].
func (c *Client) Wish(ctx context.Context, r WishRequest) error {
	return c.call(ctx, CallWish, r, nil)
}
