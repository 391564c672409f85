package publisher

// ChannelRecord is tested by itself: nobody else writes fields of it yet.
type ChannelRecord = channelRecord

// SecretsIn is secretsIn.
var SecretsIn = secretsIn
