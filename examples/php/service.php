<?php
// A service that acts once, whatever comes again: its work is a line in a ledger, and the message's id is in the same line, so that both are there or
// neither. (With a database: in the same transaction, as ../python/service.py.) And it publishes what came of it:
//
//   LEDGER=ledger TOPIC=invoices php -S 127.0.0.1:8080 service.php

declare(strict_types=1);

$id = $_SERVER['HTTP_KAFKA_MESSAGE_ID'];
$customer = $_SERVER['HTTP_KAFKA_KEY'];
$total = file_get_contents('php://input');

$ledger = fopen(getenv('LEDGER'), 'a+');
flock($ledger, LOCK_EX); // PHP_CLI_SERVER_WORKERS
if (!str_contains("\n" . stream_get_contents($ledger), "\n$id ")) {
    fwrite($ledger, "$id $customer $total\n");
}
fclose($ledger);

// the id goes along, for whoever reads it has the same question
$headers = ["Kafka-Key: $customer", "Kafka-Header-Order: $id", 'Content-Type: application/octet-stream'];
$invoice = stream_context_create(['http' => ['method' => 'POST', 'content' => "invoice of $total", 'header' => $headers, 'timeout' => 15]]);
$door = 'http://' . (getenv('KPUSH_API_ADDR') ?: '127.0.0.1:9401') . '/topics/' . getenv('TOPIC');
http_response_code(@file_get_contents($door, false, $invoice) === false ? 503 : 204); // 503: not published, again
