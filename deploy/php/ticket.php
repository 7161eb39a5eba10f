<?php
/**
 * The endpoint in front of mod_proxy_fdpass (deploy/apache/fdpass.conf): who is signed in gets a ticket for one stream,
 * as a redirect that EventSource and fetch() follow. The ticket is an empty file; Apache looks whether it is there.
 */
declare(strict_types=1);

require __DIR__ . '/auth.php';

/** Seconds. A ticket is good until the period after its own is over: 30 to 60 s, and on until the next one is made. */
const PERIOD = 30;

authenticatedUser();

$tickets = $_SERVER['STREAM_TICKETS'];
$period = intdiv(time(), PERIOD);
if (@mkdir("$tickets/$period", 0700)) {
    // The first of a period clears up behind the others.
    foreach (scandir($tickets) as $old) {
        if (ctype_digit($old) && (int) $old < $period - 1) {
            array_map('unlink', glob("$tickets/$old/*"));
            @rmdir("$tickets/$old");
        }
    }
}
$ticket = bin2hex(random_bytes(16));
if (!@touch("$tickets/$period/$ticket")) {
    error_log("streaming-daemon: cannot make a ticket in $tickets: it must be there, and writable for PHP's user");
    refuse(500, 'no ticket could be made');
}
header('Cache-Control: no-store');
header("Location: /stream-handoff/$period/$ticket", true, 303); // 303: a POST becomes a GET
