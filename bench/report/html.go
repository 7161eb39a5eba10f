package report

func WriteHTML(string, Page) error { return nil }
