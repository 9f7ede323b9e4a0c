<?php
// A service that acts once, whatever comes again: its work is a line in a ledger, and the message's id is in the same line, so that both are there or
// neither. (With a database: in the same transaction, as ../python/service.py.) And it publishes what came of it:
//
//   LEDGER=ledger TOPIC=invoices php -S 127.0.0.1:8080 service.php

declare(strict_types=1);

$id = $_SERVER['HTTP_KAFKA_MESSAGE_ID'];
$key = array_filter(['Kafka-Key' => $_SERVER['HTTP_KAFKA_KEY'] ?? null, 'Kafka-Key-Encoding' => $_SERVER['HTTP_KAFKA_KEY_ENCODING'] ?? null], 'is_string');
$customer = $key['Kafka-Key'] ?? '-'; // a message may have no key
if (isset($key['Kafka-Key-Encoding'])) {
    $customer = base64_decode($customer); // what is not visible ASCII
}
$total = file_get_contents('php://input');

$ledger = fopen(getenv('LEDGER'), 'a+');
flock($ledger, LOCK_EX); // PHP_CLI_SERVER_WORKERS
if (!str_contains("\n" . stream_get_contents($ledger), "\n$id ")) {
    fwrite($ledger, "$id $customer $total\n");
}
fclose($ledger);

// the id goes along, for whoever reads it has the same question; and the key as it came
$headers = ["Kafka-Header-Order: $id", 'Content-Type: application/octet-stream'];
foreach ($key as $name => $value) {
    $headers[] = "$name: $value";
}
$request = ['method' => 'POST', 'content' => "invoice of $total", 'header' => $headers, 'timeout' => 15, 'ignore_errors' => true];
$door = 'http://' . (getenv('KPUSH_API_ADDR') ?: '127.0.0.1:9401') . '/topics/' . getenv('TOPIC');
$answer = @file_get_contents($door, false, stream_context_create(['http' => $request]));
$published = $answer !== false && str_contains($http_response_header[0], ' 200 ');
if (!$published) {
    error_log("not published: $answer");
}
http_response_code($published ? 204 : 503); // 503: again
