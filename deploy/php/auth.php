<?php
declare(strict_types=1);

/**
 * The id of the user who asks; nobody: a 401, and the script ends. Stands for your application's own check: here, a
 * session that signing in has put a user_id into.
 */
function authenticatedUser(): string
{
    // Whatever page is open in the same browser could have sent this request, cookies and all.
    if (!in_array($_SERVER['HTTP_SEC_FETCH_SITE'] ?? 'none', ['same-origin', 'none'], true)) {
        refuse(403, 'streams are for pages of this site');
    }
    if (isset($_COOKIE[session_name()])) {
        // Closed at once: an open session makes the user's next request wait.
        session_start(['read_and_close' => true, 'use_strict_mode' => true]);
    }
    $user = $_SESSION['user_id'] ?? null;
    if (!is_string($user) && !is_int($user)) {
        refuse(401, 'sign in first');
    }
    return (string) $user;
}

/** Answers in the form of the daemon's own refusals, and ends the script. */
function refuse(int $status, string $message): never
{
    http_response_code($status);
    header('Content-Type: application/json');
    header('Cache-Control: no-store');
    echo json_encode(['error' => ['status' => $status, 'message' => $message]]), "\n";
    exit;
}
