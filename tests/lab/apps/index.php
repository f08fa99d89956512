<?php
// What php-fpm runs: it answers, or dies as a child that the kernel kills.
$id = $_SERVER['HTTP_X_REQUEST_ID'] ?? '-';
file_put_contents(__DIR__ . '/requests.log', "$id\n", FILE_APPEND | LOCK_EX);
if (str_starts_with($_SERVER['REQUEST_URI'], '/die')) {
    usleep(200000);
    posix_kill(getmypid(), 9);
}
echo '{"server": "php-fpm"}';
if (str_starts_with($_SERVER['REQUEST_URI'], '/late')) {
    // The answer is out, and there is work left: a child whose last request this was ends only then.
    fastcgi_finish_request();
    usleep(30000);
}
