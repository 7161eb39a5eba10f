// Package report shows results of the load harness: a table for the terminal, JSON for programs, one self-contained
// HTML page, and charts as SVG.
//
//	scenario.Result --> Table --> terminal
//	       |'---------> WriteJSON
//	       '----------> WriteHTML --> Chart (SVG) inside the page, or as a file
package report
