// Writes one record per line of stdin (key, tab, value) with franz-go and its default partitioner.
package main

import (
	"bufio"
	"context"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	client, err := kgo.NewClient(kgo.SeedBrokers(os.Args[1]), kgo.DefaultProduceTopic(os.Args[2]))
	if err != nil {
		panic(err)
	}
	defer client.Close()
	var records []*kgo.Record
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), "\t")
		records = append(records, &kgo.Record{Key: []byte(key), Value: []byte(value)})
	}
	if err := client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		panic(err)
	}
}
