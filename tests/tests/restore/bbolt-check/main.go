// Runs bbolt's own consistency check on a database file, and prints what it finds.
package main

import (
	"fmt"
	"os"

	bolt "github.com/coreos/bbolt"
)

func main() {
	db, err := bolt.Open(os.Args[1], 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	found := 0
	err = db.View(func(tx *bolt.Tx) error {
		for wrong := range tx.Check() {
			fmt.Println(wrong)
			found++
		}
		return nil
	})
	if err != nil || found > 0 {
		fmt.Println("not whole:", err)
		os.Exit(1)
	}
}
