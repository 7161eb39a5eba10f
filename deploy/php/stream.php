<?php
/**
 * The endpoint in front of mod_socket_handoff (deploy/apache/socket-handoff.conf): two headers in place of a response.
 * The module takes both off, hands the client's socket and the payload to the daemon, and PHP's part is over.
 */
declare(strict_types=1);

require __DIR__ . '/auth.php';

/** Bytes: the largest message that the kernel lets through with its default socket buffers. */
const PAYLOAD_MAX = 212_960;

$user = authenticatedUser();
$id = $_SERVER['UNIQUE_ID'] ?? bin2hex(random_bytes(12));

// json_encode writes line ends, and everything beyond ASCII, as \u…. The one byte it leaves that a header may not have
// is DEL: Apache would answer 500.
$payload = str_replace("\x7f", '\u007f', json_encode([
    'prompt' => prompt(),
    'user_id' => $user,
    'request_id' => $id,
    // The daemon sends the response's head; what of it is yours to say goes here. For pages of another origin:
    // 'Access-Control-Allow-Origin' => 'https://app.example'
    'response_headers' => ['X-Request-Id' => $id],
], JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES | JSON_INVALID_UTF8_SUBSTITUTE));
if (strlen($payload) > PAYLOAD_MAX) {
    refuse(413, 'the prompt is too long');
}
header('X-Socket-Handoff: ' . $_SERVER['STREAM_SOCKET']);
header("X-Handoff-Data: $payload");

/** From fetch() as JSON, from a form, or from EventSource in the URL. */
function prompt(): string
{
    $fields = $_REQUEST;
    if (str_starts_with($_SERVER['CONTENT_TYPE'] ?? '', 'application/json')) {
        $fields = json_decode(file_get_contents('php://input'), true);
    }
    $prompt = is_array($fields) ? $fields['prompt'] ?? null : null;
    return is_string($prompt) ? $prompt : refuse(400, 'prompt is missing');
}
