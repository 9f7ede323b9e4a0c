<?php
// A business service in the origin's form: POST with m (the message), p (its partition), o (its offset);
// {"errno":0} means done, anything else means again. It keeps per partition the newest offset that was done
// and says of each order what it is: in order, a repeat, or one that came too early; also in /data/orders.log,
// which outlives the container.
//
//   php -S 127.0.0.1:8080 orders.php

declare(strict_types=1);

require __DIR__ . '/KafkaClient.php';

const FOLDER = '/data';

function answer(int $errno, string $errmsg = ''): void
{
    header('Content-Type: application/json');
    echo json_encode(['errno' => $errno, 'errmsg' => $errmsg]);
}

function say(string $text): void
{
    $line = date('H:i:s ') . $text . "\n";
    file_put_contents(FOLDER . '/orders.log', $line, FILE_APPEND);
    file_put_contents('php://stdout', $line);
}

/** Does the order, and returns what there is to say about it. The caller holds the partition's lock. */
function order(string $message, int $offset, array &$done): string
{
    $newest = $done['offset'];
    if ($newest !== null && $offset <= $newest) {
        return 'REPEAT ' . (isset($_SERVER['HTTP_KAFKA_IN_DOUBT']) ? '(announced: Kafka-In-Doubt)' : '(not announced)');
    }
    $every = (int) getenv('FAIL_EVERY');
    if ($every > 0 && $offset % $every === $every - 1 && $done['failed'] !== $offset) {
        $done['failed'] = $offset;
        return 'fails on purpose';
    }
    $done['offset'] = $offset;
    return $newest === null || $offset === $newest + 1 ? 'in order' : 'GAP after ' . $newest;
}

if ($_SERVER['REQUEST_URI'] === '/health') {
    exit('ok');
}
if (!isset($_POST['m']) || !ctype_digit($_POST['p'] ?? '') || !ctype_digit($_POST['o'] ?? '')) {
    answer(400, 'm, p and o are needed');
    return;
}

$file = fopen(FOLDER . "/partition-{$_POST['p']}.json", 'c+');
if ($file === false || !flock($file, LOCK_EX)) {
    answer(500, 'the state cannot be opened');
    return;
}
$done = json_decode(stream_get_contents($file), true) ?? ['offset' => null, 'failed' => null];
$verdict = order($_POST['m'], (int) $_POST['o'], $done);
rewind($file);
fwrite($file, str_pad(json_encode($done), 80)); // one write of one length: a kill leaves the old state or the new one
say("orders/{$_POST['p']}/{$_POST['o']} {$_POST['m']}  $verdict");
fclose($file);

if (getenv('PUBLISH_TO') && $verdict === 'in order') { // an invoice for each order, through kpush
    KafkaClient::setTopic(getenv('PUBLISH_TO'));
    if (!KafkaClient::sendMsgAsyn('{"invoice":' . $_POST['m'] . '}', $_POST['p'])) {
        error_log('not published: ' . KafkaClient::lastError()['message']);
    }
}
if ($verdict === 'fails on purpose') {
    answer(1, $verdict);
    return;
}
answer(0);
