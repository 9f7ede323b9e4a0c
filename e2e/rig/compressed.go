package rig

import "github.com/twmb/franz-go/pkg/kgo"

// Compress writes records as one batch of zstd, however large it is once unpacked.
func (k *Kafka) Compress(t T, topic string, records ...Record) []Record {
	t.Helper()
	const most = 1 << 30
	packer, err := newClient(k.Brokers, kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerBatchMaxBytes(most),
		kgo.BrokerMaxWriteBytes(most), kgo.BrokerMaxReadBytes(most), kgo.ProducerLinger(clientLimit/200))
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer packer.close()
	return (&Kafka{Brokers: k.Brokers, client: packer}).Produce(t, topic, records...)
}
