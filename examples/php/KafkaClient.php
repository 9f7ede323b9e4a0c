<?php
// The origin's KafkaClient over kpush's publish door: the same four calls, and no extension. A PHP service moves by exchanging
// this file.
//
//   KafkaClient::init();                        // or init('http://127.0.0.1:9401', 'token')
//   KafkaClient::setTopic('orders');
//   KafkaClient::sendMsg($message, $key);       // true: Kafka has it
//   KafkaClient::sendMsgAsyn($message, $key);   // true: kpush has queued it
//
// false: it was refused, or nobody knows; lastError() says why, and whether to try again. Whoever tries again what nobody knows of may
// publish it twice.

declare(strict_types=1);

final class KafkaClient
{
    private static string $door = 'http://127.0.0.1:9401';
    private static string $token = '';
    private static string $topic = '';
    private static float $timeout = 15.0; // above kpush's delivery timeout, which answers first
    private static ?array $error = null;

    /** The origin's brokers and log path mean nothing here: kpush knows the brokers. What begins with http:// is its address. */
    public static function init(string $door = '', string $token = '', float $timeout = 15.0): void
    {
        if (preg_match('#^http://#', $door)) {
            self::$door = rtrim($door, '/');
            self::$token = $token;
        }
        self::$timeout = $timeout;
    }

    public static function setTopic(string $topic): void
    {
        self::$topic = $topic;
    }

    /** Waits until Kafka has the message. */
    public static function sendMsg(string $message, ?string $key = null): bool
    {
        return self::post($message, $key, '') === 200;
    }

    /** Returns once kpush has queued it. */
    public static function sendMsgAsyn(string $message, ?string $key = null): bool
    {
        return self::post($message, $key, '?async=true') === 202;
    }

    /** Of the newest call that was false: error_code, message, retriable. */
    public static function lastError(): ?array
    {
        return self::$error;
    }

    private static function post(string $message, ?string $key, string $query): int
    {
        $headers = ['Content-Type: application/octet-stream', 'Connection: close'];
        if ($key !== null) {
            array_push($headers, 'Kafka-Key: ' . base64_encode($key), 'Kafka-Key-Encoding: base64');
        }
        if (self::$token !== '') {
            $headers[] = 'Authorization: Bearer ' . self::$token;
        }
        $context = stream_context_create(['http' => ['method' => 'POST', 'header' => $headers, 'content' => $message,
            'timeout' => self::$timeout, 'ignore_errors' => true, 'follow_location' => 0, 'protocol_version' => 1.1]]);
        $answer = @file_get_contents(self::$door . '/topics/' . rawurlencode(self::$topic) . $query, false, $context);
        $status = preg_match('#^HTTP/\S+ (\d{3})#', $http_response_header[0] ?? '', $m) ? (int) $m[1] : 0;
        self::$error = null;
        if ($status !== 200 && $status !== 202) {
            $said = json_decode((string) $answer, true);
            self::$error = is_array($said) ? $said : ['error_code' => $status, 'message' => 'kpush does not answer', 'retriable' => true];
        }
        return $status;
    }
}
