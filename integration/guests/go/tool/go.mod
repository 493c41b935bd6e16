module tandem.dev/guests/go

go 1.25
